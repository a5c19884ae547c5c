"""When a run's state is saved, and how it goes on from there."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from miram.engines.distributed import is_main_process, rank, stop_distributed, was_restarted, world_size
from miram.engines.sharding import load_whole_state, whole_state
from miram.engines.steps import TrainingStep
from miram.engines.stopping import Agreement, Stopped, StopRequest, end_loaders, name_of
from miram.errors import InputError
from miram.files import remove_temporaries
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

logger = logging.getLogger(__name__)

_KEYS = {"epoch", "iteration", "best_metric", "best_metric_epoch"}


class CheckpointHandler:
    """
    Save a run between and within epochs, and when it is told to stop; and continue it with the same bits.

    The order of samples, their augmentation and their masks follow from the seed and the epoch; so beside the weights a
    checkpoint holds the optimizer, the loss scaler, the position (epochs done, and iterations of the one after), the
    state of the learning-rate schedule, the sums of the epoch so far, and torch's generators, which stochastic depth
    draws from. What a schedule does not change in itself is the config's, so that a run can be made longer.

    Within an epoch a run is saved after an optimizer step, so that no gradient is lost. SIGTERM and SIGINT (Ctrl-C)
    save it at the next step, or as it was after the last step if they come while an epoch is concluded (validation),
    and end it with the status 128 + signal. Of several processes all stop at the same step, whichever had the signal.

    Args:
        path: the checkpoint file; the one before is kept beside it.
        network: the network without wrappers, so that a checkpoint loads with any number of processes.
        optimizer: its optimizer.
        scheduler: its learning-rate schedule.
        step: tells when the optimizer steps, and has the loss scaler of float16.
        resume: continue from `path` if it is there; otherwise start afresh, and say so.
        interval: epochs between two checkpoints; the last epoch is always saved.
        minutes: after which the run is saved within an epoch, too; None never does.
        more: further parts of the run by name, each with `state_dict` and `load_state_dict`.
        each_process: the same, of parts whose state is another one in each process.
        evaluator: several processes can stop while it runs.
        provenance: where the run comes from, kept in the file. What else is written holds the same dictionary: what a
            checkpoint tells of other versions or configs that the run began with is added to it.
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
    ) -> None:
        self.path = Path(path)
        self.to_save: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "scaler": step.scaler,
            **(more or {}),
        }
        self.generators = Generators()
        self.each_process: dict[str, Any] = {"generators": self.generators, **(each_process or {})}
        self.schedule = Schedule(scheduler)
        self.step = step
        self.resume = resume
        self.interval = interval
        self.minutes = minutes
        self.evaluator = evaluator
        self.provenance = {} if provenance is None else provenance
        self.replaced: Replaced = "keep"
        self.saved_at = 0.0
        self.concluding: dict[str, Any] | None = None  # the state after an epoch's last step, while it is concluded

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the handlers that read its epoch."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.STARTED, self._attach_last)

    def _attach_last(self, engine: Engine) -> None:
        """Come after all other handlers: what a checkpoint says is done, validation and history too, is done."""
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
        """Give signals back; Ignite leaves it to us to raise an error again."""
        self.request.restore()
        if error is not None:
            raise error

    # --- saving

    def after_iteration(self, engine: SupervisedTrainer) -> None:
        """Save or stop if it is time, where the optimizer has stepped."""
        state = engine.state
        if state.iteration % state.epoch_length == 0:
            self._begin_concluding(engine, state.epoch - 1)
        elif self.step.ends_group(state.iteration, state.epoch_length):
            self._look(engine, state.epoch - 1)

    def after_epoch(self, engine: SupervisedTrainer) -> None:
        """Save if this epoch is one to be saved, and stop if that was asked for and there is more to do."""
        self.concluding, self.request.at_once = None, None
        epoch, last = engine.state.epoch, engine.state.max_epochs
        if epoch % self.interval == 0 or epoch == last or engine.should_terminate:
            self.save(engine, epoch)
        if epoch != last and not engine.should_terminate:
            self._look(engine, epoch)

    def save(self, engine: SupervisedTrainer, epochs: int) -> None:
        """
        Write the checkpoint; all processes together.

        Args:
            engine: the trainer.
            epochs: how many are done, validation and history too.
        """
        self._write(self._content(engine, epochs))

    def _content(self, engine: SupervisedTrainer, epochs: int) -> dict[str, Any]:
        state = engine.state
        content: dict[str, Any] = {
            name: whole_state(part) for name, part in self.to_save.items()
        }  # all processes together
        content |= {"epoch": epochs, "iteration": state.iteration, "epoch_length": state.epoch_length}
        content["each_process"] = self.agreement.gather(
            {name: part.state_dict() for name, part in self.each_process.items()}
        )
        content["schedule"] = self.schedule.state_dict()
        content["best_metric"], content["best_metric_epoch"] = state.best_metric, state.best_metric_epoch
        content["provenance"] = {**self.provenance, "epoch": epochs, "iteration": state.iteration}
        return content

    def _write(self, content: Mapping[str, Any]) -> None:
        if is_main_process():
            write_checkpoint(self.path, content, self.replaced)
        self.replaced = "keep"
        self.saved_at = time.monotonic()

    # --- stopping

    def _wishes(self) -> tuple[int, int]:
        """The signal that this process had, or 0; and, of the main process, whether it is time to save."""
        due = self.minutes is not None and time.monotonic() - self.saved_at >= 60 * float(self.minutes)
        return self.request.signal or 0, int(due and is_main_process())

    def _look(self, engine: SupervisedTrainer, epochs: int) -> None:
        """Stop or save if a process asked for it."""
        alone = world_size() == 1
        number, due = self._wishes() if alone else self.agreement.answer() or (0, 0)
        if number:
            self._stop(number, self._content(engine, epochs))
        if due:
            self.save(engine, epochs)
        if not alone:
            self.agreement.ask(*self._wishes())

    def _stop(self, number: int, content: Mapping[str, Any]) -> NoReturn:
        """Save, and end the process when all have come here."""
        self.request.at_once = None
        self._write(content)
        done, length = content["iteration"] - content["epoch"] * content["epoch_length"], content["epoch_length"]
        logger.warning(
            "stopped by %s after %d epochs and %d of %d iterations of the next: all is in %s. The same command%s goes "
            "on from there",
            name_of(number),
            content["epoch"],
            done,
            length,
            self.path,
            "" if self.resume else " without --resume False",
        )
        stop_distributed()
        end_loaders()
        raise Stopped(number)

    def _begin_concluding(self, engine: SupervisedTrainer, epochs: int) -> None:
        """
        Remember the state after the last step of an epoch: what concludes it, such as validation, changes no weights,
        and a run that is stopped meanwhile concludes the epoch again.
        """
        self.concluding = self._content(engine, epochs)
        if world_size() == 1:
            self.request.at_once = self._stop_concluding
            if self.request.signal:  # it came before; one that comes from now on stops at once
                self._stop(self.request.signal, self.concluding)
        else:
            self._look(engine, epochs)

    def _stop_concluding(self, number: int) -> None:
        if self.concluding is not None:
            self._stop(number, self.concluding)

    def _count_common(self, evaluator: Engine) -> None:
        """The validation batches that every process has: only there can all of them agree."""
        self.common = self.agreement.smallest_now(evaluator.state.epoch_length or 0)

    def _while_validating(self, evaluator: Engine) -> None:
        """Stop several processes within validation."""
        if self.concluding is None or evaluator.state.iteration > self.common:
            return
        number, _ = self.agreement.answer() or (0, 0)
        if number:
            self._stop(number, self.concluding)
        self.agreement.ask(*self._wishes())

    # --- going on

    def load(self, engine: SupervisedTrainer) -> None:
        """
        Continue from the checkpoint.

        Raises:
            InputError: if the checkpoint is damaged, as is the one before it, or of another network.
        """
        if is_main_process():
            remove_temporaries(self.path.parent)
        if not exists(self.path):
            logger.info("starting at epoch 1: no checkpoint at %s", self.path)
            self.generators.part(rank())
            return
        note = note_of_fresh_start(self.path)
        if not self.resume and (not was_restarted() or note.exists()):
            self.replaced = "forget"  # nobody shall go on from the old run by mistake
            if is_main_process():
                note.touch()  # for processes that torchrun starts again before the first checkpoint
            logger.info("resume is False: starting afresh at epoch 1; %s will be replaced", self.path)
            self.generators.part(rank())
            return
        content, source = read_checkpoint(self.path)
        if source != self.path:
            self.replaced = "drop"  # a damaged file shall not take the place of a good one
        missing = {*self.to_save, *_KEYS} - content.keys()
        if "scheduler_step" not in content:  # of the older form
            missing |= {"schedule"} - content.keys()
        if missing:
            raise InputError(f"{self.path} is no checkpoint of a run: it lacks {sorted(missing)}")
        try:
            self._restore(engine, content)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path} holds what a run cannot go on with ({type(error).__name__}: {error}); give another "
                "--output_dir, or --resume False to replace it"
            ) from error

    def _restore(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        check_same_network(self.path, self.to_save["network"], content["network"])
        saved = content.get("provenance", {})
        refuse_to_forget(self.path, saved, self.provenance)
        warn_of_changes(self.path, saved, self.provenance)
        self.provenance |= earlier_starts(saved, self.provenance)
        for name, part in self.to_save.items():
            if name != "scaler" or content[name]:  # a run in another precision had none
                load_whole_state(part, content[name])
        self._load_position(engine, content)
        engine.state.best_metric, engine.state.best_metric_epoch = content["best_metric"], content["best_metric_epoch"]
        # a checkpoint of another number of processes: what it has of each is near enough for the means of one epoch
        states = content.get("each_process") or [{"generators": content["generators"]}]  # the older form
        own = states[rank() % len(states)]
        for name, part in self.each_process.items():
            if name in own:
                part.load_state_dict(own[name])
        if rank() >= len(states):  # its own numbers, not those of the process whose state it was given
            self.generators.part(rank())

    def _load_position(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        """Set the engine, the schedule and the loader to where the checkpoint was written."""
        epoch, length = content["epoch"], engine.state.epoch_length
        saved_length = content.get("epoch_length", length)
        done = max(content["iteration"] - epoch * saved_length, 0)
        if saved_length != length:
            logger.warning(
                "an epoch has %d iterations now, it had %d: going on at the same share", length, saved_length
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
        """Watch for signals from here on, and do what is left of an epoch whose steps are all done."""
        self.request.watch()
        state = engine.state
        if state.iteration == (state.epoch + 1) * state.epoch_length:
            self._begin_concluding(engine, state.epoch)
            state.epoch += 1
            engine.fire_event(Events.EPOCH_COMPLETED)
