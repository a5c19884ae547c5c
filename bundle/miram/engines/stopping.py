"""Stop requests from outside: SIGTERM of a batch queue, and Ctrl-C."""

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

from miram.engines.distributed import PATIENCE, world_size

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# torchrun passes a signal on to processes that may have had it already: this soon, in seconds, it is the same request
_SAME_REQUEST = 5.0


class Stopped(SystemExit):
    """
    The end of a process that was stopped by a signal and has saved its state, with the status 128 + signal.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        """For the log of whoever passes it on."""
        return f"stopped by {name_of(self.number)}"


class StopRequest:
    """
    Catch the first SIGTERM or SIGINT, so that a run can save its state before it ends. A second one ends it at once.

    Between :meth:`watch` and :meth:`restore` the signals of this process are caught; outside of the main thread, where
    Python allows no handlers, none are. Others look at :attr:`signal` where they can stop; while they can do so
    anywhere, they set :attr:`at_once`.
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
        """Leave signals to whom they were left before."""
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
        logger.warning("%s: stopping as soon as a checkpoint is written; once more stops now", name_of(number))
        if self.at_once is not None:
            self.at_once(number)


class Agreement:
    """
    Let all processes do the same at the same iteration, without waiting for a GPU.

    Each asks at its iterations, on the CPU, and is answered at the next one: the exchange goes on behind the computing.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE) if world_size() > 1 else None
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def ask(self, *wishes: int) -> None:
        """Send this process's wishes, whole numbers from 0, to the others."""
        question = torch.tensor(wishes)
        work = dist.all_reduce(question, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None  # since it goes on behind
        self._pending = work, question

    def answer(self) -> tuple[int, ...]:
        """The largest of each of the wishes that were asked for last; nothing if none were."""
        if self._pending is None:
            return ()
        work, question = self._pending
        work.wait()
        self._pending = None
        return tuple(question.tolist())

    def smallest_now(self, value: int) -> int:
        """The smallest value over the processes, waiting for them."""
        if self._group is None:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MIN, self._group)
        return int(tensor)

    def gather(self, value: object) -> list[object]:
        """What each process has, in their order, waiting for them."""
        if self._group is None:
            return [value]
        gathered: list[object] = [None] * world_size()
        dist.all_gather_object(gathered, value, self._group)
        return gathered


def name_of(number: int) -> str:
    """A signal's name, SIGTERM."""
    return signal.Signals(number).name


def end_loaders() -> None:
    """End loader processes; at the end of this one torch would wait five seconds for each."""
    for process in multiprocessing.active_children():
        process.terminate()
