"""The position of a learning-rate schedule in a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from miram.errors import InputError

# what changes in the state of a schedule that depends on the step alone, or of one composed of several such schedules
_STEP_ALONE = {"last_epoch", "_step_count", "_last_lr", "_schedulers"}


class Schedule:
    """
    A learning-rate schedule whose position goes into a checkpoint, while its settings come from the config.

    Its position is what has changed in its state since it was made: only the step, or more for a schedule that depends
    on its past (`SequentialLR`, `ReduceLROnPlateau`). What has not changed, such as the total number of steps, is taken
    from this run's config, so that a run can be made longer. The same holds for what it sets in the optimizer, such as
    the momentum of `OneCycleLR`.

    Args:
        scheduler: just created, in its initial state.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler
        self.start = self._state()

    def _state(self) -> dict[str, Any]:
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.scheduler.optimizer.param_groups]
        return copy.deepcopy({"scheduler": self.scheduler.state_dict(), "groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """The full state of the scheduler and the optimizer's options, now and at the start."""
        return {"now": self._state(), "start": self.start}

    def load(self, path: Path, saved: Mapping[str, Any], length: int, saved_length: int) -> None:
        """
        Restore the position in a checkpoint, after the optimizer's state was loaded.

        Args:
            saved_length: iterations per epoch in the checkpoint's run; its steps are scaled by the ratio.

        Raises:
            InputError: if the epochs have another length and the schedule's position is more than a step.
        """
        place = _changed(saved["now"], saved["start"])
        scheduler = place.get("scheduler", {})
        if length != saved_length:
            scheduler = _rescaled(path, scheduler, length, saved_length)
        self.scheduler.load_state_dict(_merged(self.scheduler.state_dict(), scheduler))
        groups = place.get("groups", [])
        for group, options in zip(self.scheduler.optimizer.param_groups, groups, strict=False):
            group.update(options)


def _changed(now: Any, start: Any) -> Any:
    """The entries of a state that differ from those of another, also within nested states."""
    if isinstance(now, dict) and isinstance(start, dict):
        return {
            name: _changed(value, start.get(name))
            for name, value in now.items()
            if name not in start or value != start[name]
        }
    if _holds_states(now) and start:
        return [_changed(*pair) for pair in zip(now, start, strict=True)]
    return now


def _merged(own: Any, place: Any) -> Any:
    """A state with a position's entries merged in."""
    if isinstance(own, dict) and isinstance(place, dict):
        return {name: _merged(value, place[name]) if name in place else value for name, value in own.items()}
    if _holds_states(own):
        return [_merged(*pair) for pair in zip(own, place, strict=True)]
    return place


def _holds_states(value: Any) -> bool:
    """Whether an entry is a list of states, as `SequentialLR` has one."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _rescaled(path: Path, place: Mapping[str, Any], length: int, saved_length: int) -> dict[str, Any]:
    """A position converted to epochs of another length."""
    own = place.keys() - _STEP_ALONE
    if own:
        raise InputError(
            f"{path} was written with epochs of another length, and the position of its schedule is more than a step "
            f"({', '.join(sorted(own))}); keep batch_size and data as they were, or give --resume False"
        )
    scaled = dict(place)
    if "last_epoch" in place:
        scaled["last_epoch"] = place["last_epoch"] * length // saved_length
    if "_schedulers" in place:
        scaled["_schedulers"] = [_rescaled(path, part, length, saved_length) for part in place["_schedulers"]]
    return scaled
