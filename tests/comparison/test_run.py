"""Steps run once, go on after an interruption, and are not mixed."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from miram.comparison import run
from miram.comparison.plan import make_plan
from miram.errors import InputError


def test_an_interrupted_comparison_continues(settings, stub) -> None:
    plan = make_plan(settings)
    names = [step.name for step in plan]
    with pytest.raises(KeyboardInterrupt):
        run.run_plan(plan, settings, stub(fail_at=names[5]))
    second = stub()
    run.run_plan(plan, settings, second)
    assert second.names == names[5:]
    third = stub()
    run.run_plan(plan, settings, third)
    assert third.names == []


def test_a_further_seed_adds_to_what_is_there(settings, stub) -> None:
    run.run_plan(make_plan(settings), settings, stub())
    more, runner = replace(settings, seeds=(0, 1, 2)), stub()
    run.run_plan(make_plan(more), more, runner)
    assert runner.names
    assert all(name.endswith("seed_2") for name in runner.names)


def test_runs_of_other_arguments_are_not_mixed(settings, stub) -> None:
    run.run_plan(make_plan(settings), settings, stub())
    other, runner = replace(settings, overrides={"pretrain": {"mask_ratio": 0.5}}), stub()
    with pytest.raises(
        InputError, match=r"begun with other arguments.*pretrain/miram/seed_0, whose overrides, config changed"
    ):
        run.run_plan(make_plan(other), other, runner)
    assert runner.names == []


def test_a_step_without_its_output_is_not_finished(settings) -> None:
    plan = make_plan(settings)
    with pytest.raises(InputError, match=r"ended without .*backbone\.pt; its log is"):
        run.run_plan(plan, settings, lambda step, settings: None)
    assert not run.is_finished(plan[0], settings)


def test_a_failing_step_names_its_log(settings, monkeypatch) -> None:
    plan = make_plan(settings)

    def fail(command, stdout, **options):
        stdout.write("working\nerror: the disk is full\n")
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(run.subprocess, "run", fail)
    with pytest.raises(InputError, match=r"pretrain/miram/seed_0 failed.*log\.txt.*error: the disk is full"):
        run.run_plan(plan, settings)


def test_the_command_is_a_users(settings) -> None:
    plan = make_plan(settings)
    evaluate = next(step for step in plan if step.stage == "evaluate")
    assert "evaluating" in run.command_of(evaluate, settings.output_dir / "overrides.yaml")
    command = run.command_of(plan[1], settings.output_dir / "overrides.yaml")
    files = [text.rpartition("/")[2].strip("']") for text in command[-1].split(",")]
    assert files == ["pretrain.yaml", "mae.yaml", "overrides.yaml"]
