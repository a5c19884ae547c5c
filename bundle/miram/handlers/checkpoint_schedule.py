"""The place of a learning-rate schedule in a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from miram.errors import InputError

# what a schedule that follows from the step alone changes in its state, and one that is made of several
_STEP_ALONE = {"last_epoch", "_step_count", "_last_lr", "_schedulers"}


class Schedule:
    """
    A learning-rate schedule whose place goes into a checkpoint, while the schedule itself stays the config's.

    Its place is what has changed in its state since it was made: the step alone, or for a schedule that follows from
    its own past (`SequentialLR`, `ReduceLROnPlateau`) more. What has not changed, such as the number of steps in all,
    is taken from this run's config, so that a run can be made longer. The same holds for what it sets in the optimizer,
    such as the momentum of `OneCycleLR`.

    Args:
        scheduler: just made.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler
        self.start = self._state()

    def _state(self) -> dict[str, Any]:
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.scheduler.optimizer.param_groups]
        return copy.deepcopy({"scheduler": self.scheduler.state_dict(), "groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """The whole state of the scheduler and the optimizer's options, now and as they were made."""
        return {"now": self._state(), "start": self.start}

    def load(self, path: Path, content: Mapping[str, Any], length: int, saved_length: int) -> None:
        """
        Go to the place where a checkpoint was written, after the optimizer's state was loaded.

        Args:
            path: of the checkpoint, for messages.
            content: what it holds.
            length: iterations of an epoch.
            saved_length: of an epoch of the checkpoint's run; its steps become the same share of an epoch.

        Raises:
            InputError: if the checkpoint tells too little for this schedule, or its epochs are of another length and
                the schedule has more than a step to go on from.
        """
        saved = content.get("schedule") or self._older(path, content["scheduler_step"])
        place = _changed(saved["now"], saved["start"])
        scheduler = place.get("scheduler", {})
        if length != saved_length:
            scheduler = _rescaled(path, scheduler, length, saved_length)
        self.scheduler.load_state_dict(_merged(self.scheduler.state_dict(), scheduler))
        groups = place.get("groups", [])
        for group, options in zip(self.scheduler.optimizer.param_groups, groups, strict=False):
            group.update(options)

    def _older(self, path: Path, step: int) -> dict[str, Any]:
        """What a checkpoint of version 0.1 tells."""
        if not isinstance(self.scheduler, LambdaLR):
            raise InputError(
                f"{path} is of an older version and tells only the step of its schedule, from which a "
                f"{type(self.scheduler).__name__} cannot go on; give another --output_dir, or --resume False"
            )
        return {"now": {"scheduler": {"last_epoch": step}}, "start": {"scheduler": {}}}


def _changed(now: Any, start: Any) -> Any:
    """The entries of a state that differ from those of another, and of the states within it likewise."""
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
    """A state with the entries of a place in it."""
    if isinstance(own, dict) and isinstance(place, dict):
        return {name: _merged(value, place[name]) if name in place else value for name, value in own.items()}
    if _holds_states(own):
        return [_merged(*pair) for pair in zip(own, place, strict=True)]
    return place


def _holds_states(value: Any) -> bool:
    """Whether an entry is a list of states, as `SequentialLR` has one."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _rescaled(path: Path, place: Mapping[str, Any], length: int, saved_length: int) -> dict[str, Any]:
    """A place in epochs of another length."""
    own = place.keys() - _STEP_ALONE
    if own:
        raise InputError(
            f"{path} was written in epochs of another length, and its schedule has more than a step to go on from "
            f"({', '.join(sorted(own))}); keep batch_size and data as they were, or give --resume False"
        )
    scaled = dict(place)
    if "last_epoch" in place:
        scaled["last_epoch"] = place["last_epoch"] * length // saved_length
    if "_schedulers" in place:
        scaled["_schedulers"] = [_rescaled(path, part, length, saved_length) for part in place["_schedulers"]]
    return scaled
