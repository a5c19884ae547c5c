"""Steps run once, go on after an interruption, and are not mixed."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import pytest
from filelock import FileLock

from miram import files
from miram.errors import InputError
from studies.comparison import run
from studies.comparison.plan import make_plan


def test_an_interrupted_comparison_continues(settings, stub) -> None:
    plan = make_plan(settings)
    names = [step.name for step in plan]
    with pytest.raises(KeyboardInterrupt):
        run.run_plan(plan, settings, runner=stub(fail_at=names[5]))
    second = stub()
    run.run_plan(plan, settings, runner=second)
    assert second.names == names[5:]
    third = stub()
    run.run_plan(plan, settings, runner=third)
    assert third.names == []


def test_a_further_seed_adds_to_what_is_there(settings, stub) -> None:
    run.run_plan(make_plan(settings), settings, runner=stub())
    more, runner = replace(settings, seeds=(0, 1, 2)), stub()
    run.run_plan(make_plan(more), more, runner=runner)
    assert runner.names
    assert all(name.endswith("seed_2") for name in runner.names)


def test_two_comparisons_do_not_share_a_folder(settings, stub, monkeypatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.0)
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.output_dir / ".lock"), pytest.raises(InputError, match="another run is writing to"):
        run.run_plan(make_plan(settings), settings, runner=stub())


def test_runs_of_other_arguments_are_not_mixed(settings, stub) -> None:
    run.run_plan(make_plan(settings), settings, runner=stub())
    other, runner = replace(settings, overrides={"pretrain": {"mask_ratio": 0.5}}), stub()
    with pytest.raises(
        InputError, match=r"started with other arguments.*pretrain/miram/seed_0, whose overrides, config changed"
    ):
        run.run_plan(make_plan(other), other, runner=runner)
    assert runner.names == []


def test_a_step_without_its_output_is_not_finished(settings) -> None:
    plan = make_plan(settings)
    with pytest.raises(InputError, match=r"ended without .*backbone\.pt; its log is"):
        run.run_plan(plan, settings, runner=lambda *_: None)
    assert not run.is_finished(plan[0], settings)


def as_python(code):
    """In place of a bundle's command: Python code, to which `sys.argv[1]` is the file of the step's overrides."""
    return lambda step, overrides: [sys.executable, "-c", code, str(overrides)]


def test_a_failing_step_names_its_log(settings, monkeypatch) -> None:
    plan = make_plan(settings)
    monkeypatch.setattr(run, "command_of", as_python("print('working'); exit('error: the disk is full')"))
    with pytest.raises(InputError, match=r"pretrain/miram/seed_0 failed.*log\.txt.*error: the disk is full"):
        run.run_plan(plan, settings)


def test_what_runs_beside_a_failing_step_is_asked_to_save(settings, monkeypatch) -> None:
    """The first step ends at the signal, the second fails once the first listens."""
    plan = make_plan(settings)
    code = """
import pathlib, signal, sys, time
here = pathlib.Path(sys.argv[1]).parent
ready, saved = here.parents[1] / "ready", here / "saved"
if "miram" in here.parts:
    signal.signal(signal.SIGTERM, lambda *_: (saved.touch(), sys.exit(143)))
    ready.touch()
    time.sleep(60)
while not ready.exists():
    time.sleep(0.01)
sys.exit("error: failed")
"""
    monkeypatch.setattr(run, "command_of", as_python(code))
    with pytest.raises(InputError, match=r"pretrain/mae/seed_0 failed.*error: failed"):
        run.run_plan(plan, settings, lanes=2)
    assert (settings.output_dir / "pretrain/miram/seed_0/saved").is_file()
    assert not any(run.is_finished(step, settings) for step in plan)


def test_steps_side_by_side_share_the_machine(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(run, "available_cores", lambda: 9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    shares = [run.environment_of(lane, 3) for lane in range(3)]
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["3", "3", "3"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "6", "4"]
    assert "OMP_NUM_THREADS" not in run.environment_of(0, 1)


def test_the_command_is_a_users(settings) -> None:
    plan = make_plan(settings)
    evaluate = next(step for step in plan if step.stage == "evaluate")
    assert "evaluating" in run.command_of(evaluate, settings.output_dir / "overrides.yaml")
    command = run.command_of(plan[1], settings.output_dir / "overrides.yaml")
    files = [text.rpartition("/")[2].strip("']") for text in command[-1].split(",")]
    assert files == ["pretrain.yaml", "mae.yaml", "overrides.yaml"]


@pytest.mark.parametrize("lanes", [1, 3])
def test_each_step_runs_once_after_the_one_it_starts_from(settings, lanes: int) -> None:
    plan, ended, busy, lock = make_plan(settings), [], set(), threading.Lock()

    def work(step, lane):
        assert step.after is None or step.after.name in ended
        with lock:
            assert lane < lanes
            assert lane not in busy
            busy.add(lane)
        with lock:
            busy.remove(lane)
            ended.append(step.name)

    run.run_side_by_side(plan, lanes, work, lambda: None)
    assert sorted(ended) == sorted(step.name for step in plan)
    if lanes == 1:
        assert ended == [step.name for step in plan]


def test_lanes_are_used_at_once(settings) -> None:
    plan, together, met = make_plan(settings)[:2], threading.Barrier(2, timeout=30), []

    def work(step, lane):
        together.wait()  # for the other step, and in vain if steps ran one by one
        met.append((step.name, lane))

    run.run_side_by_side(plan, 2, work, lambda: None)
    assert sorted(met) == sorted((step.name, lane) for lane, step in enumerate(plan))


def test_no_step_starts_after_one_that_failed(settings) -> None:
    plan, started, stopped = make_plan(settings), [], []

    def work(step, lane):
        started.append(step.name)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run.run_side_by_side(plan, 1, work, lambda: stopped.append(True))
    assert started == [plan[0].name]
    assert stopped == [True]
