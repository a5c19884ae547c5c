"""Times are taken in turn and compared round by round."""

from __future__ import annotations

import torch

from studies.benchmark.timing import Ratio, matrix_rate, ratios, time_in_turn

CPU = torch.device("cpu")


def test_steps_run_in_turn_and_each_round_starts_one_further():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = time_in_turn(steps, CPU, repeats=3, warmup=0)
    assert "".join(order) == "abcbcacab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_rounds_of_warmup_do_not_count():
    calls = []
    seconds = time_in_turn({"a": lambda: calls.append(0)}, CPU, repeats=2, warmup=3)
    assert (len(calls), len(seconds["a"])) == (5, 2)


def test_a_ratio_is_taken_within_a_round():
    """The second round was ten times slower for all: the ratio does not see it."""
    found = ratios({"base": [1.0, 10.0, 1.0], "half": [0.5, 5.0, 0.5], "odd": [1.0, 20.0, 3.0]}, "base")
    assert found["half"] == Ratio(0.5, 0.5, 0.5)
    assert found["odd"] == Ratio(2.0, 1.5, 2.5)


def test_the_rate_of_matrix_products_is_that_of_a_processor():
    rate = matrix_rate(CPU, "float32", size=256, repeats=3)
    assert 1e8 < rate < 1e14  # no processor is slower, and none faster
