"""Run steps of a comparison in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from studies.comparison.plan import Step


def run_side_by_side(
    steps: Sequence[Step], lanes: int, work: Callable[[Step, int], None], stop: Callable[[], None]
) -> None:
    """
    Run several steps at once: each after the step that it depends on, otherwise in the given order.

    Args:
        steps: the steps to run.
        lanes: how many run at once.
        work: runs a step in a lane, 0 to `lanes` - 1; steps that run at the same time have different lanes.
        stop: ends the running steps; called if one fails, or on an interruption.

    Raises:
        Exception: what `work` raised, after the others have ended.
    """
    waiting, unfinished, free = list(steps), {step.name for step in steps}, list(range(lanes))
    running: dict[Future[None], tuple[Step, int]] = {}
    with ThreadPoolExecutor(lanes) as pool:
        try:
            while waiting or running:
                ready = [step for step in waiting if step.after is None or step.after.name not in unfinished]
                for step in ready[: len(free)]:
                    waiting.remove(step)
                    lane = free.pop(0)
                    running[pool.submit(work, step, lane)] = step, lane
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step, lane = running.pop(future)
                    future.result()
                    unfinished.remove(step.name)
                    free.append(lane)
        except BaseException:
            stop()
            raise
