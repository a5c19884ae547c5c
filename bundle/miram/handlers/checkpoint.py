"""When a run's state is saved, and how the run resumes from it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data.distributed import DistributedSampler

from miram.engines.distributed import gather_objects, is_main_process, rank, stop_distributed, was_restarted, world_size
from miram.engines.sharding import load_whole_state, whole_state
from miram.engines.steps import TrainingStep
from miram.engines.stopping import Agreement, Stopped, StopRequest, end_loaders, name_of
from miram.errors import InputError
from miram.files import remove_temporaries
from miram.handlers.checkpoint_branch import AnnealingBranch
from miram.handlers.checkpoint_files import Replaced, exists, note_of_fresh_start, read_checkpoint, write_checkpoint
from miram.handlers.checkpoint_parts import (
    Generators,
    check_same_network,
    earlier_starts,
    refuse_to_forget,
    start_within,
    warn_of_changes,
)
from miram.handlers.checkpoint_schedule import Schedule
from miram.weights.initial import InitialWeights

logger = logging.getLogger(__name__)

_KEYS = {"epoch", "iteration", "best_metric", "best_metric_epoch"}


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

    Args:
        path: the checkpoint file; the previous one is kept beside it.
        network: the network without wrappers, so that a checkpoint loads with any number of processes.
        optimizer: its optimizer.
        scheduler: its learning-rate schedule.
        step: knows when the optimizer steps, and holds the loss scaler of float16.
        resume: continue from `path` if it exists; otherwise start afresh, and log that.
        interval: epochs between two checkpoints; the last epoch is always saved.
        minutes: also save within an epoch after this many minutes; None never does.
        more: further parts of the run by name, each with `state_dict` and `load_state_dict`.
        each_process: the same, for parts whose state differs between processes.
        evaluator: several processes can stop while it runs.
        provenance: where the run comes from, kept in the file. Other writers share this dictionary: if the run began
            with another version or config, as its checkpoint says, or from initial weights, that is added to it.
        initial: called at the start of a run that does not resume; the weights that it starts from, or None.
        annealing_start: the epoch after which the schedule anneals; its checkpoint is also kept as before_annealing.pt,
            from which a longer run goes on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        step: TrainingStep,
        resume: bool = True,
        interval: int = 1,
        minutes: float | None = None,
        more: Mapping[str, Any] | None = None,
        each_process: Mapping[str, Any] | None = None,
        evaluator: Engine | None = None,
        provenance: dict[str, Any] | None = None,
        initial: Callable[[], InitialWeights | None] | None = None,
        annealing_start: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.to_save: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "scaler": step.scaler,
            **(more or {}),
        }
        self.more = dict(more or {})
        self.generators = Generators()
        self.each_process: dict[str, Any] = {"generators": self.generators, **(each_process or {})}
        self.schedule = Schedule(scheduler)
        self.branch = AnnealingBranch(self.path, annealing_start)
        self.step = step
        self.resume = resume
        self.interval = interval
        self.minutes = minutes
        self.evaluator = evaluator
        self.provenance = {} if provenance is None else provenance
        self.initial = initial
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
        """
        Write the checkpoint; all processes call it together.

        Args:
            engine: the trainer.
            epochs: how many are done, including validation and history.
        """
        self._write(self._position(engine, epochs))

    def _position(self, engine: SupervisedTrainer, epochs: int) -> dict[str, Any]:
        """What a checkpoint holds besides weights; all processes call it together."""
        state = engine.state
        content = {"epoch": epochs, "iteration": state.iteration, "epoch_length": state.epoch_length}
        content["each_process"] = gather_objects({name: part.state_dict() for name, part in self.each_process.items()})
        content["schedule"], content["annealing_start"] = self.schedule.state_dict(), self.branch.epoch
        content["best_metric"], content["best_metric_epoch"] = state.best_metric, state.best_metric_epoch
        content["provenance"] = {**self.provenance, "epoch": epochs, "iteration": state.iteration}
        # not yet changed by a validation that a stopped run does again
        return content | {name: whole_state(part) for name, part in self.more.items()}

    def _write(self, position: Mapping[str, Any]) -> None:
        """Write the weights of now, which are gathered only here, and a position; all processes call it together."""
        weights = {name: whole_state(part) for name, part in self.to_save.items()}
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
            self._stop(number, self._position(engine, epochs))
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
        self.concluding = self._position(engine, epochs)
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
        if not exists(self.path):
            logger.info("starting at epoch 1: no checkpoint at %s", self.path)
            self._start()
            return
        note = note_of_fresh_start(self.path)
        if not self.resume and (not was_restarted() or note.exists()):
            self.replaced = "forget"  # so that nobody resumes the old run by mistake
            if is_main_process():
                note.touch()  # for processes that torchrun restarts before the first checkpoint
            logger.info("resume is False: starting afresh at epoch 1; %s will be replaced", self.path)
            self._start()
            return
        content, source = read_checkpoint(self.path)
        if source != self.path:
            self.replaced = "drop"  # a damaged file must not replace a good one
        missing = {*self.to_save, *_KEYS} - content.keys()
        if "scheduler_step" not in content:  # the older format
            missing |= {"schedule"} - content.keys()
        if missing:
            raise InputError(f"{self.path} is not a checkpoint of a run: it lacks {sorted(missing)}")
        try:
            self._restore(engine, self.branch.choose(self.path, content))
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"a run cannot resume from {self.path} ({type(error).__name__}: {error}); give another "
                "--output_dir, or --resume False to replace it"
            ) from error

    def _start(self) -> None:
        """Begin a run at its first epoch."""
        initial = self.initial() if self.initial is not None else None
        if initial is not None:
            network = self.to_save["network"]
            load_whole_state(network, {**network.state_dict(), **initial.state_dict})
            self.provenance["initial_weights"] = initial.facts
        self.generators.part(rank())

    def _restore(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        check_same_network(self.path, self.to_save["network"], content["network"])
        saved = content.get("provenance", {})
        refuse_to_forget(self.path, saved, self.provenance)
        warn_of_changes(self.path, saved, self.provenance)
        self.provenance |= earlier_starts(saved, self.provenance)
        self.provenance |= {name: saved[name] for name in ("initial_weights",) if name in saved}
        for name, part in self.to_save.items():
            if name != "scaler" or content[name]:  # empty if the run used another precision
                load_whole_state(part, content[name])
        self._load_position(engine, content)
        engine.state.best_metric, engine.state.best_metric_epoch = content["best_metric"], content["best_metric_epoch"]
        # with another number of processes, reusing the saved states is accurate enough for the means of one epoch
        states = content.get("each_process") or [{"generators": content["generators"]}]  # the older format
        own = states[rank() % len(states)]
        for name, part in self.each_process.items():
            if name in own:
                part.load_state_dict(own[name])
        if rank() >= len(states):  # draw its own numbers, not those of the process whose state it reuses
            self.generators.part(rank())

    def _load_position(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        """Set the engine, the schedule and the loader to the position of the checkpoint."""
        epoch, length = content["epoch"], engine.state.epoch_length
        saved_length = content.get("epoch_length", length)
        done = max(content["iteration"] - epoch * saved_length, 0)
        if saved_length != length:
            logger.warning(
                "an epoch now has %d iterations, not %d: resuming at the same fraction of it", length, saved_length
            )
            done = done * length // saved_length
        while 0 < done < length and not self.step.ends_group(done, length):
            done -= 1
        self.schedule.load(self.path, content, length, saved_length)
        engine.state.epoch, engine.state.iteration = epoch, epoch * length + done
        if 0 < done < length:
            start_within(engine.data_loader, epoch + 1, done)
        within = f", and {done} of {length} iterations of the next" if done else ""
        logger.info("resumed from %s after epoch %d of %d%s", self.path, epoch, engine.state.max_epochs, within)

    def _conclude_epoch(self, engine: SupervisedTrainer) -> None:
        """Watch for signals from here on, and finish an epoch whose steps are all done."""
        self.request.watch()
        state = engine.state
        if state.iteration == (state.epoch + 1) * state.epoch_length:
            self._begin_concluding(engine, state.epoch)
            state.epoch += 1
            engine.fire_event(Events.EPOCH_COMPLETED)
