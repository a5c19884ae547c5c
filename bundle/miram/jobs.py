"""Work on files in a pool of processes that survives codecs which hang or crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from miram.errors import InputError
from miram.progress import progress_bar

# In a row: a single process can be killed for lack of memory while it starts, but not all of them
_MOST_FAILED_STARTS = 3
_LONGEST_START = 300.0  # seconds
_CANNOT_START = (
    "worker processes die before they start: call this from a script's main function, under "
    "`if __name__ == '__main__':`, or with workers=0; if the machine is short of memory, use fewer workers"
)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    workers: int | None = None,
    description: str = "",
    time_limit: float = 300.0,
    name: Callable[[Job], str] = str,
) -> list[Result | InputError]:
    """
    Do `work` on every job in a pool of processes, with a progress bar.

    Bad input in one job does not stop the others: the error becomes its result. The same holds for a job that takes
    longer than the limit, or whose process dies (a codec crashes, memory runs out): the process is replaced. Any other
    exception in a job (a full disk, a bug) ends the run: jobs in progress finish, and the rest are not started.

    Args:
        jobs: what to work on; each is pickled.
        work: a function that a new process can import (at a module's top level, or a `functools.partial` of one).
        workers: number of processes; None is one per core, 0 is this process, without protection from hangs and
            crashes.
        description: the text before the progress bar.
        time_limit: seconds that a job may take.
        name: returns a job's name for errors, usually the file's path.

    Returns:
        a result, or the job's `InputError`, for each job in order.

    Raises:
        InputError: if `workers` or `time_limit` is out of range, or new processes die before they start.
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; give 0 (this process), a positive number, or none (all cores)")
    if time_limit <= 0:
        raise InputError(f"time_limit is {time_limit}; give the seconds that a file may take")
    count = min(available_cores() if workers is None else workers, len(jobs))
    if workers == 0:
        return [_attempt(work, job) for job in progress_bar(len(jobs), description, "files", iterable=jobs)]
    with progress_bar(len(jobs), description, "files") as bar:
        return _in_a_pool(work, jobs, count, time_limit, name, bar)


def available_cores() -> int:
    """The cores that this process may use (fewer than the machine's in a container or a batch job)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_a_pool(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    count: int,
    time_limit: float,
    name: Callable[[Job], str],
    bar: tqdm,
) -> list[Result | InputError]:
    results: dict[int, Result | InputError] = {}
    waiting = deque(range(len(jobs)))
    workers: list[_Worker[Job, Result]] = [_Worker(work, time_limit) for _ in range(count)]
    failed_starts = 0
    try:
        while len(results) < len(jobs):
            for worker in _settled(workers):
                index, result = worker.collect()
                failed_starts = 0 if worker.begun else failed_starts + 1
                if failed_starts == _MOST_FAILED_STARTS:
                    raise InputError(_CANNOT_START)
                if index is not None:
                    results[index] = result
                    bar.update()
                if worker.dead:
                    workers.remove(worker)
                    workers += [_Worker(work, time_limit)] if waiting else []
                elif waiting:
                    following = waiting.popleft()
                    worker.give(following, jobs[following], name(jobs[following]))
        return [results[index] for index in range(len(jobs))]
    finally:
        for worker in workers:
            worker.pipe.close()  # it ends after its job
        for worker in workers:
            worker.leave()


class _Worker(Generic[Job, Result]):
    """
    A process with its own pipe, so that dying while it holds a lock or sends a result does not affect other workers.

    In the pools of pebble and the standard library all workers share one pipe, and a process killed while sending ends
    the pool.
    """

    def __init__(self, work: Callable[[Job], Result], time_limit: float) -> None:
        # Spawned, not forked: a fork can hang if torch has already started threads.
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, work), daemon=True)
        self.process.start()
        other_end.close()  # so that this end sees an end of file when the worker dies
        self.time_limit = time_limit
        self.begun = False
        self.index: int | None = None
        self.name = ""
        self.deadline = time.monotonic() + _LONGEST_START
        self.dead = False

    def give(self, index: int, job: Job, name: str) -> None:
        """Start a job."""
        self.index, self.name, self.deadline = index, name, time.monotonic() + self.time_limit
        with suppress(BrokenPipeError):  # it died while idle: collect() will see the end of file
            self.pipe.send(job)

    def collect(self) -> tuple[int | None, Any]:
        """
        The job that ended and its result, or why there is none; no job if the process has just started or died first.

        Raises:
            Exception: what the job raised.
        """
        index, self.index, self.deadline = self.index, None, float("inf")
        if not self.pipe.poll():
            self.end()
            limit = f"{self.time_limit:g} seconds"
            return index, InputError(f"{self.name} took longer than {limit} and was skipped; it may be damaged")
        try:
            result = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.end()
            return index, InputError(f"{self.name} {_cause_of_death(self.process.exitcode)}")
        self.begun = True
        if isinstance(result, Exception) and not isinstance(result, InputError):
            raise result
        return index, result

    def end(self) -> None:
        """Kill the process, which may be stuck in a codec that ignores other signals."""
        self.dead, self.index = True, None
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def leave(self) -> None:
        """Wait for the process to end after its pipe was closed, but no longer than its job may take."""
        limit = self.deadline - time.monotonic() if self.index is not None else self.time_limit
        self.process.join(max(limit, 0))
        self.process.kill()


def _settled(workers: Sequence[_Worker[Job, Result]]) -> Iterator[_Worker[Job, Result]]:
    """Wait for the next workers that have started, ended a job, died, or run out of time."""
    now = time.monotonic()
    first = min(worker.deadline for worker in workers)
    ready = wait([worker.pipe for worker in workers], None if first == float("inf") else max(first - now, 0))
    now = time.monotonic()
    return iter([worker for worker in workers if worker.pipe in ready or worker.deadline <= now])


def _cause_of_death(exit_code: int | None) -> str:
    killed = exit_code == -9
    why = "killed, usually for lack of memory; try again with fewer workers" if killed else "ended by a crash"
    return f"stopped the process that worked on it (exit code {exit_code}: {why}); the file may be damaged"


def _serve(pipe: Connection, work: Callable[[Job], Result]) -> None:
    """Receive jobs and send results, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    torch.set_num_threads(1)  # the processes share the cores
    with suppress(EOFError, ConnectionError):
        pipe.send(None)
        while True:
            pipe.send(_outcome(work, pipe.recv()))


def _outcome(work: Callable[[Job], Result], job: Job) -> Result | Exception:
    try:
        return _attempt(work, job)
    except Exception as error:
        error.add_note(f"in a worker process, at {job}:\n{traceback.format_exc()}")
        return error


def _attempt(work: Callable[[Job], Result], job: Job) -> Result | InputError:
    try:
        return work(job)
    except InputError as error:
        return error
