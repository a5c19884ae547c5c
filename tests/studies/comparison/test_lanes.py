"""Steps side by side: in order, each after what it starts from."""

from __future__ import annotations

import threading

import pytest

from studies.comparison.lanes import run_side_by_side
from studies.comparison.plan import make_plan


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

    run_side_by_side(plan, lanes, work, lambda: None)
    assert sorted(ended) == sorted(step.name for step in plan)
    if lanes == 1:
        assert ended == [step.name for step in plan]


def test_lanes_are_used_at_once(settings) -> None:
    plan, together, met = make_plan(settings)[:2], threading.Barrier(2, timeout=30), []

    def work(step, lane):
        together.wait()  # for the other step, and in vain if steps ran one by one
        met.append((step.name, lane))

    run_side_by_side(plan, 2, work, lambda: None)
    assert sorted(met) == sorted((step.name, lane) for lane, step in enumerate(plan))


def test_no_step_starts_after_one_that_failed(settings) -> None:
    plan, started, stopped = make_plan(settings), [], []

    def work(step, lane):
        started.append(step.name)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run_side_by_side(plan, 1, work, lambda: stopped.append(True))
    assert started == [plan[0].name]
    assert stopped == [True]
