"""When a run's state is saved, and how the run resumes from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data.distributed import DistributedSampler

from miram.engines.distributed import is_main_process, stop_distributed, was_restarted, world_size
from miram.engines.steps import TrainingStep
from miram.engines.stopping import Agreement, Stopped, StopRequest, end_loaders, name_of
from miram.files import remove_temporaries
from miram.handlers.checkpoint_files import (
    AnnealingBranch,
    Replaced,
    exists,
    note_of_fresh_start,
    read_checkpoint,
    write_checkpoint,
)
from miram.handlers.checkpoint_schedule import Schedule
from miram.handlers.checkpoint_state import RunState
from miram.weights.initial import InitialWeights

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class CheckpointHandler:
    """
    Save a run between and within epochs, and when it is told to stop; and resume it bit for bit.

    The order of samples, their augmentation and their masks follow from the seed and the epoch. So besides the weights
    a checkpoint holds the optimizer, the loss scaler, the position (epochs done, and iterations of the next), the state
    of the learning-rate schedule, the sums of the epoch so far, and torch's generators, from which stochastic depth
    draws. Settings of a schedule that never change come from the config, so that a run can be made longer.

    Within an epoch a run is saved after an optimizer step, so that no gradient is lost. SIGTERM and SIGINT (Ctrl-C)
    save it at the next step, or in its state after the last step if they come at the end of an epoch (validation), and
    end it with the status 128 + signal. Several processes all stop at the same step, whichever received the signal.
    """

    path: Path  # the checkpoint file; the previous one is kept beside it
    network: nn.Module  # the network without wrappers, so that a checkpoint loads with any number of processes
    optimizer: Optimizer
    scheduler: LRScheduler
    step: TrainingStep  # knows when the optimizer steps, and holds the loss scaler of float16
    resume: bool = True  # continue from `path` if it exists; otherwise start afresh, and log that
    interval: int = 1  # epochs between two checkpoints; the last epoch is always saved
    minutes: float | None = None  # also save within an epoch after this many minutes; None never does
    # further parts of the run by name, each with `state_dict` and `load_state_dict`
    more: Mapping[str, Any] | None = None
    each_process: Mapping[str, Any] | None = None  # the same, for parts whose state differs between processes
    evaluator: Engine | None = None  # several processes can stop while it runs
    # where the run comes from, kept in the file. Other writers share this dictionary: if the run began with another
    # version or config, as its checkpoint says, or from initial weights, that is added to it.
    provenance: dict[str, Any] | None = None
    # called at the start of a run that does not resume; the weights that it starts from, or None
    initial: Callable[[], InitialWeights | None] | None = None
    # the epoch after which the schedule anneals; its checkpoint is also kept as before_annealing.pt, from which a
    # longer run goes on
    annealing_start: int | None = None

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self.state = RunState(
            path=self.path,
            weights={"network": self.network, "optimizer": self.optimizer, "scaler": self.step.scaler},
            more=self.more or {},
            each_process=self.each_process or {},
            schedule=Schedule(self.scheduler),
            step=self.step,
            provenance={} if self.provenance is None else self.provenance,
            annealing_start=self.annealing_start,
        )
        self.branch = AnnealingBranch(self.path, self.annealing_start)
        self.replaced: Replaced = "keep"
        self.saved_at = 0.0
        self.concluding: dict[str, Any] | None = None  # the state after an epoch's last step, until the epoch ends

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the handlers that read its epoch."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.STARTED, self._attach_last)
        engine.add_event_handler(Events.EPOCH_STARTED, self._tell_epoch)

    def _tell_epoch(self, engine: SupervisedTrainer) -> None:
        """Tell the sampler which epoch it is: MONAI's trainer does so only for torch's own loaders."""
        sampler = getattr(engine.data_loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(engine.state.epoch)

    def _attach_last(self, engine: Engine) -> None:
        """Attach after all other handlers, so that validation and history are done when a checkpoint says so."""
        self.request, self.agreement = StopRequest(), Agreement()
        self.saved_at = time.monotonic()
        if engine.has_event_handler(self.after_epoch, Events.EPOCH_COMPLETED):
            return
        engine.add_event_handler(Events.STARTED, self._conclude_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._leave)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._leave)
        if self.evaluator is not None and world_size() > 1:
            self.evaluator.add_event_handler(Events.STARTED, self._count_common)
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._while_validating)

    def _leave(self, engine: Engine, error: BaseException | None = None) -> None:
        """Restore the signal handlers; Ignite leaves re-raising an error to us."""
        self.request.restore()
        if error is not None:
            raise error

    # --- saving

    def after_iteration(self, engine: SupervisedTrainer) -> None:
        """Save or stop if it is time and the optimizer has stepped."""
        state = engine.state
        if state.iteration % state.epoch_length == 0:
            self._begin_concluding(engine, state.epoch - 1)
        elif self.step.ends_group(state.iteration, state.epoch_length):
            self._look(engine, state.epoch - 1)

    def after_epoch(self, engine: SupervisedTrainer) -> None:
        """Save if this epoch is due, and stop if that was requested and epochs are left."""
        self.concluding, self.request.at_once = None, None
        epoch, last = engine.state.epoch, engine.state.max_epochs
        if epoch % self.interval == 0 or epoch in (last, self.branch.epoch) or engine.should_terminate:
            self.save(engine, epoch)
        if epoch != last and not engine.should_terminate:
            self._look(engine, epoch)

    def save(self, engine: SupervisedTrainer, epochs: int) -> None:
        """Write the checkpoint after that many epochs, with validation and history; all processes call it together."""
        self._write(self.state.position(engine, epochs))

    def _write(self, position: Mapping[str, Any]) -> None:
        """Write the weights of now, which are gathered only here, and a position; all processes call it together."""
        weights = self.state.whole_weights()
        if is_main_process():
            content = {**weights, **position}
            if self.replaced == "forget":
                self.branch.path.unlink(missing_ok=True)
            write_checkpoint(self.path, content, self.replaced)
            self.branch.keep(content)
        self.replaced = "keep"
        self.saved_at = time.monotonic()

    # --- stopping

    def _wishes(self) -> tuple[int, int]:
        """The signal that this process received, or 0; and, in the main process, whether it is time to save."""
        due = self.minutes is not None and time.monotonic() - self.saved_at >= 60 * float(self.minutes)
        return self.request.signal or 0, int(due and is_main_process())

    def _look(self, engine: SupervisedTrainer, epochs: int) -> None:
        """Stop or save if any process asked for it."""
        alone = world_size() == 1
        number, due = self._wishes() if alone else self.agreement.answer() or (0, 0)
        if number:
            self._stop(number, self.state.position(engine, epochs))
        if due:
            self.save(engine, epochs)
        if not alone:
            self.agreement.ask(*self._wishes())

    def _stop(self, number: int, content: Mapping[str, Any]) -> NoReturn:
        """Save, and end the process when all processes are here."""
        self.request.at_once = None
        self._write(content)
        done, length = content["iteration"] - content["epoch"] * content["epoch_length"], content["epoch_length"]
        logger.warning(
            "stopped by %s after %d epochs and %d of %d iterations of the next: everything is saved in %s. The same "
            "command%s continues from there",
            name_of(number),
            content["epoch"],
            done,
            length,
            self.path,
            "" if self.resume else " without --resume False",
        )
        stop_distributed(128 + number)
        end_loaders()
        raise Stopped(number)

    def _begin_concluding(self, engine: SupervisedTrainer, epochs: int) -> None:
        """
        Remember the position after the last step of an epoch. What follows, such as validation, does not change
        weights, and a run that is stopped during it does it again.
        """
        self.concluding = self.state.position(engine, epochs)
        if world_size() == 1:
            self.request.at_once = self._stop_concluding
            if self.request.signal:  # it came before this point; from now on a signal stops at once
                self._stop(self.request.signal, self.concluding)
        else:
            self._look(engine, epochs)

    def _stop_concluding(self, number: int) -> None:
        if self.concluding is not None:
            self._stop(number, self.concluding)

    def _count_common(self, evaluator: Engine) -> None:
        """Count the validation batches that every process has: only within these can all of them agree."""
        self.common = self.agreement.smallest_now(evaluator.state.epoch_length or 0)

    def _while_validating(self, evaluator: Engine) -> None:
        """Stop several processes during validation."""
        if self.concluding is None or evaluator.state.iteration > self.common:
            return
        number, _ = self.agreement.answer() or (0, 0)
        if number:
            self._stop(number, self.concluding)
        self.agreement.ask(*self._wishes())

    # --- resuming

    def load(self, engine: SupervisedTrainer) -> None:
        """
        Continue from the checkpoint.

        Raises:
            InputError: if both the checkpoint and the previous one are damaged, or it is of another network; or, at a
                fresh start, if the initial weights do not fit.
        """
        if is_main_process():
            remove_temporaries(self.path.parent)
        note = note_of_fresh_start(self.path)
        if not exists(self.path):
            logger.info("starting at epoch 1: no checkpoint at %s", self.path)
        elif self.resume or (was_restarted() and not note.exists()):
            content, source = read_checkpoint(self.path)
            if source != self.path:
                self.replaced = "drop"  # a damaged file must not replace a good one
            self.state.check(content)
            self.state.restore(engine, self.branch.choose(self.path, content))
            return
        else:
            self.replaced = "forget"  # so that nobody resumes the old run by mistake
            if is_main_process():
                note.touch()  # for processes that torchrun restarts before the first checkpoint
            logger.info("resume is False: starting afresh at epoch 1; %s will be replaced", self.path)
        self.state.start(self.initial() if self.initial is not None else None)

    def _conclude_epoch(self, engine: SupervisedTrainer) -> None:
        """Watch for signals from here on, and finish an epoch whose steps are all done."""
        self.request.watch()
        state = engine.state
        if state.iteration == (state.epoch + 1) * state.epoch_length:
            self._begin_concluding(engine, state.epoch)
            state.epoch += 1
            engine.fire_event(Events.EPOCH_COMPLETED)
