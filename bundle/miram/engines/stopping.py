"""Stop requests from outside: SIGTERM from a batch queue, and Ctrl-C."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import torch
import torch.distributed as dist

from miram.engines.distributed import patient_group, world_size

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# torchrun forwards a signal to processes that may already have received it: a repeat within this many seconds is the
# same request
_SAME_REQUEST = 5.0


class Stopped(SystemExit):
    """
    Ends a process that was stopped by a signal and has saved its state, with the exit status 128 + signal.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        """The text that is logged by callers that pass it on."""
        return f"stopped by {name_of(self.number)}"


class StopRequest:
    """
    Catch the first SIGTERM or SIGINT, so that a run can save its state before it ends. A second one ends it at once.

    Signals are caught between :meth:`watch` and :meth:`restore`, but not outside the main thread, where Python allows
    no handlers. Callers check :attr:`signal` at points where they can stop. While they can stop anywhere, they set
    :attr:`at_once`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once: Callable[[int], None] | None = None
        self._time = 0.0
        self._previous: dict[int, object] = {}

    def watch(self) -> None:
        """Catch signals from now on."""
        if threading.current_thread() is threading.main_thread() and not self._previous:
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def restore(self) -> None:
        """Restore the signal handlers that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if world_size() > 1 and time.monotonic() - self._time < _SAME_REQUEST:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal, self._time = number, time.monotonic()
        logger.warning(
            "%s: stopping as soon as a checkpoint is written; send it again to stop at once", name_of(number)
        )
        if self.at_once is not None:
            self.at_once(number)


class Agreement:
    """
    Let all processes do the same thing at the same iteration, without waiting for a GPU.

    Each asks at one iteration, on the CPU, and gets the answer at the next: the exchange overlaps with computation.
    """

    def __init__(self) -> None:
        self._group = patient_group()
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def ask(self, *wishes: int) -> None:
        """Send this process's wishes, whole numbers from 0, to the others."""
        question = torch.tensor(wishes)
        work = dist.all_reduce(question, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None  # since it is asynchronous
        self._pending = work, question

    def answer(self) -> tuple[int, ...]:
        """The largest value over the processes of each wish last sent; empty if nothing was sent."""
        if self._pending is None:
            return ()
        work, question = self._pending
        work.wait()
        self._pending = None
        return tuple(question.tolist())

    def smallest_now(self, value: int) -> int:
        """The smallest value over the processes; waits for all of them."""
        if self._group is None:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MIN, self._group)
        return int(tensor)


def name_of(number: int) -> str:
    """A signal's name, such as SIGTERM."""
    return signal.Signals(number).name


def end_loaders() -> None:
    """End the loader processes. Otherwise torch would wait five seconds for each when this process ends."""
    for process in multiprocessing.active_children():
        process.terminate()
