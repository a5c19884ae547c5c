"""The benchmark from end to end, on a tiny encoder."""

from __future__ import annotations

import json

import pytest
import torch

from miram.errors import InputError
from studies.benchmark import step_cases
from studies.benchmark.step_cases import StepSettings, make_case
from studies.benchmark.step_cost import StepCost
from studies.benchmark.steps import run_benchmark, step_rows, time_in_turn, write_benchmark

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(step_cases.ENCODERS, "tiny", (48, 96, 1, 2))


def run(*names: str, precision: str = "float32"):
    return run_benchmark(names, [StepSettings("tiny", precision, 1, CPU)], repeats=2)


def test_steps_are_counted_and_timed_relative_to_the_first(tmp_path):
    result = run("transformers", "mae", "cross_attention", "monai")
    rows = {row["name"]: row for row in result["steps"]}
    assert list(rows) == ["transformers", "mae", "cross_attention", "monai"]
    assert rows["transformers"]["time_ratio"] == 1
    assert rows["mae"]["flops_ratio"] == pytest.approx(1, abs=0.01)  # the same network twice
    assert rows["monai"]["flops_ratio"] == pytest.approx(1, abs=0.05)
    for row in rows.values():
        assert row["images_per_second"] == pytest.approx(1 / row["seconds"])
    js, markdown = write_benchmark({**result, "growth": []}, tmp_path)
    assert json.loads(js.read_text())["steps"] == result["steps"]
    assert "| cross_attention | " in markdown.read_text()


def test_what_cannot_run_is_left_out_with_its_reason():
    result = run("mae", "monai", precision="bfloat16")
    assert [row["name"] for row in result["steps"]] == ["mae"]
    assert [row["name"] for row in result["left_out"]] == ["monai"]
    assert "dtypes match" in result["left_out"][0]["reason"]


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="'resnet' is not one of transformers"):
        run("resnet")


def test_a_step_trains_with_new_masks():
    settings = StepSettings("tiny", "float32", 2, CPU)
    case = make_case("cross_attention", settings)
    before = [parameter.clone() for parameter in case.step.parameters()]
    first, second = case.arguments()[2], case.arguments()[2]
    assert not torch.equal(first, second)
    case()
    moved = [not torch.equal(a, b) for a, b in zip(before, case.step.parameters(), strict=True)]
    trained = [parameter.requires_grad for parameter in case.step.parameters()]
    assert moved == trained


def test_a_peer_is_of_the_encoders_size():
    settings = StepSettings("tiny", "float32", 1, CPU)
    peer = make_case("transformers", settings).step
    count = sum(p.numel() for p in peer.parameters() if p.requires_grad)
    ours = make_case("mae", settings).step
    assert count == sum(p.numel() for p in ours.parameters() if p.requires_grad)


def test_steps_run_in_turn_and_each_round_starts_one_further():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = time_in_turn(steps, CPU, repeats=3)
    assert "".join(order) == "abc" + "bcacababc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_taken_within_a_round():
    """The second round was ten times slower for all: the ratio does not see it."""
    costs = dict.fromkeys(("base", "half", "odd"), StepCost(10, 10))
    seconds = {"base": [1.0, 10.0, 1.0], "half": [0.5, 5.0, 0.5], "odd": [1.0, 20.0, 3.0]}
    found = {
        row["name"]: [row[key] for key in ("time_ratio", "time_low", "time_high")]
        for row in step_rows(costs, seconds, 1)
    }
    assert found["half"] == [0.5, 0.5, 0.5]
    assert found["odd"] == [2.0, 1.5, 2.5]
