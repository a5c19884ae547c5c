"""Times that were measured, and times that are guessed from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from miram.comparison.cost import describe_plan, estimate_seconds, iterations, training_seconds
from miram.comparison.plan import make_plan
from miram.comparison.run import run_plan
from miram.comparison.settings import check_data


@pytest.fixture
def short(settings):
    sizes = {"max_epochs": 3, "batch_size": 5}
    return replace(settings, overrides={"pretrain": sizes, "finetune": sizes})


def test_time_is_steps_times_what_a_step_took(short, stub) -> None:
    plan, datalist = make_plan(short), check_data(short)
    half = next(step for step in plan if step.stage == "finetune" and step.label_fraction == 0.5)
    assert iterations(plan[0], datalist) == 3 * 5  # 24 images
    assert iterations(half, datalist) == 3 * 3
    for item in datalist["training"][:14]:
        item["pathology"] = None
    assert iterations(half, datalist) == 3 * 1  # 10 labelled images
    assert estimate_seconds(plan[0], plan, short, datalist) is None
    assert f"{len(plan)} steps of unknown time" in describe_plan(plan, short, datalist)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, short, stub(fail_at=plan[1].name))
    assert estimate_seconds(plan[1], plan, short, datalist) == 15.0  # 8 s for 8 iterations
    text = describe_plan(plan, short, datalist)
    assert "pretrain/miram/seed_0: finished" in text
    assert "pretrain/mae/seed_1: about 0.2 min" in text


def test_cost_is_read_from_the_histories(short, stub) -> None:
    short = replace(short, methods=("miram", "scratch"))
    plan = make_plan(short)
    run_plan(plan, short, stub())
    found = training_seconds(plan, short, "miram", "pathology", 1.0)
    assert found == {"pretraining_seconds": 8.0, "finetuning_seconds": 8.0}
    assert training_seconds(plan, short, "scratch", "pathology", 1.0)["pretraining_seconds"] == 0
