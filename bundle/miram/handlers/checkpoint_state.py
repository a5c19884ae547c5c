"""What a checkpoint holds of a run, and how the run gets it back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.engines import SupervisedTrainer

from miram.engines.distributed import gather_objects, rank
from miram.engines.sharding import load_whole_state, whole_state
from miram.engines.steps import TrainingStep
from miram.errors import InputError
from miram.handlers.checkpoint_files import check_same_network, earlier_starts, refuse_to_forget, warn_of_changes
from miram.handlers.checkpoint_schedule import Schedule
from miram.loading.seeded import SeededSampler
from miram.weights.initial import InitialWeights

logger = logging.getLogger(__name__)

_POSITION = {"epoch", "iteration", "epoch_length", "each_process", "schedule", "annealing_start", "provenance"}
_BEST = ("best_metric", "best_metric_epoch")


class Generators:
    """
    Torch's random generators: that of the CPU and, in a run that uses a GPU, those of all GPUs.

    All processes are seeded alike, so that they build the same network. From the start of training each draws its own
    numbers (:meth:`part`), so that stochastic depth drops different samples in each.
    """

    def part(self, number: int) -> None:
        """Seed them for the process with this rank; those of the first are left as they are."""
        if number > 0:
            torch.manual_seed(torch.initial_seed() + number)

    def state_dict(self) -> dict[str, Any]:
        """Their states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Restore them; those of GPUs only if the number of GPUs is the same as before."""
        torch.set_rng_state(states["cpu"])
        if torch.cuda.is_initialized() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])


@dataclass(eq=False)
class RunState:
    """The parts of a run that a checkpoint holds. All processes call each method together."""

    path: Path  # of the checkpoint, for messages
    weights: dict[str, Any]  # "network", "optimizer" and "scaler"
    more: Mapping[str, Any]  # further parts by name
    each_process: Mapping[str, Any]  # parts whose state differs between processes
    schedule: Schedule  # of the learning rate
    step: TrainingStep  # knows when the optimizer steps
    provenance: dict[str, Any]  # where the run comes from; facts of its beginning are added
    annealing_start: int | None  # the epoch after which the schedule anneals, or None
    generators: Generators = field(default_factory=Generators)

    def start(self, initial: InitialWeights | None) -> None:
        """Begin at the first epoch, from these weights if there are any."""
        if initial is not None:
            network = self.weights["network"]
            load_whole_state(network, {**network.state_dict(), **initial.state_dict})
            self.provenance["initial_weights"] = initial.facts
        self.generators.part(rank())

    def position(self, engine: SupervisedTrainer, epochs: int) -> dict[str, Any]:
        """What a checkpoint holds besides weights, after this number of epochs."""
        state = engine.state
        return {
            "epoch": epochs,
            "iteration": state.iteration,
            "epoch_length": state.epoch_length,
            "each_process": gather_objects({name: part.state_dict() for name, part in self._own_parts().items()}),
            "schedule": self.schedule.state_dict(),
            "annealing_start": self.annealing_start,
            "provenance": {**self.provenance, "epoch": epochs, "iteration": state.iteration},
            **{name: getattr(state, name) for name in _BEST},
            # not yet changed by a validation that a stopped run does again
            **{name: whole_state(part) for name, part in self.more.items()},
        }

    def whole_weights(self) -> dict[str, Any]:
        """The weights of now, gathered from all processes."""
        return {name: whole_state(part) for name, part in self.weights.items()}

    def check(self, content: Mapping[str, Any]) -> None:
        """
        Check that a file's content is that of a checkpoint.

        Raises:
            InputError: naming what it lacks.
        """
        missing = {*self.weights, *self.more, *_POSITION, *_BEST} - content.keys()
        if missing:
            raise InputError(f"{self.path} is not a checkpoint of a run: it lacks {sorted(missing)}")

    def restore(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        """
        Continue from a checkpoint's content.

        Raises:
            InputError: if it is of another network, or does not fit this run.
        """
        try:
            self._restore(engine, content)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"a run cannot resume from {self.path} ({type(error).__name__}: {error}); give another "
                "--output_dir, or --resume False to replace it"
            ) from error

    def _restore(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        check_same_network(self.path, self.weights["network"], content["network"])
        saved = content["provenance"]
        refuse_to_forget(self.path, saved, self.provenance)
        warn_of_changes(self.path, saved, self.provenance)
        self.provenance |= earlier_starts(saved, self.provenance)
        self.provenance |= {name: saved[name] for name in ("initial_weights",) if name in saved}
        for name, part in {**self.weights, **self.more}.items():
            if name != "scaler" or content[name]:  # empty if the run used another precision
                load_whole_state(part, content[name])
        self._load_position(engine, content)
        for name in _BEST:
            setattr(engine.state, name, content[name])
        self._load_own(content["each_process"])

    def _own_parts(self) -> dict[str, Any]:
        return {"generators": self.generators, **self.each_process}

    def _load_own(self, states: list[Mapping[str, Any]]) -> None:
        """Load the states of this process; with more processes than before, some reuse those of another."""
        own = states[rank() % len(states)]  # accurate enough for the means of one epoch
        for name, part in self._own_parts().items():
            if name in own:
                part.load_state_dict(own[name])
        if rank() >= len(states):  # draw its own numbers, not those of the process whose state it reuses
            self.generators.part(rank())

    def _load_position(self, engine: SupervisedTrainer, content: Mapping[str, Any]) -> None:
        """Set the engine, the schedule and the loader to the position of the checkpoint."""
        epoch, length, saved_length = content["epoch"], engine.state.epoch_length, content["epoch_length"]
        done = max(content["iteration"] - epoch * saved_length, 0)
        if saved_length != length:
            logger.warning(
                "an epoch now has %d iterations, not %d: resuming at the same fraction of it", length, saved_length
            )
            done = done * length // saved_length
        while 0 < done < length and not self.step.ends_group(done, length):
            done -= 1
        self.schedule.load(self.path, content["schedule"], length, saved_length)
        engine.state.epoch, engine.state.iteration = epoch, epoch * length + done
        if 0 < done < length:
            start_within(engine.data_loader, epoch + 1, done)
        within = f", and {done} of {length} iterations of the next" if done else ""
        logger.info("resumed from %s after epoch %d of %d%s", self.path, epoch, engine.state.max_epochs, within)


def start_within(loader: Any, epoch: int, batches: int) -> None:
    """
    Make a loader skip the first batches of an epoch, without loading them.

    Args:
        batches: how many are done.

    Raises:
        TypeError: if its sampler is not a :class:`miram.loading.seeded.SeededSampler`.
    """
    if not isinstance(loader.sampler, SeededSampler):
        raise TypeError(f"resuming within an epoch needs a SeededSampler, not a {type(loader.sampler).__name__}.")
    loader.sampler.start_within(epoch, batches * loader.batch_size)
