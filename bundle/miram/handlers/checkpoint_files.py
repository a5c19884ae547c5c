"""The checkpoint files of a run (the last, the previous, the one before annealing), and whether one fits the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from miram.errors import InputError
from miram.files import atomic_write
from miram.weights.backbone import load_weights_file

logger = logging.getLogger(__name__)

Replaced = Literal["keep", "drop", "forget"]

_REMEDY = "Give another output_dir, or start afresh with --resume False"


def previous_of(path: Path) -> Path:
    """The file of the checkpoint before the last: `checkpoint_previous.pt` of `checkpoint.pt`."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def exists(path: Path) -> bool:
    """Whether there is a checkpoint; a process killed between two renames leaves only the previous one."""
    return path.exists() or previous_of(path).exists()


def write_checkpoint(path: Path, content: Mapping[str, Any], replaced: Replaced = "keep") -> None:
    """
    Write a checkpoint, completely or not at all.

    Args:
        replaced: what happens to an existing file: "keep" it as :func:`previous_of`; "drop" it, since it is damaged
            and the previous one is good; "forget" it and the previous one, since they are of another run.
    """
    with atomic_write(path, previous_of(path) if replaced == "keep" else None) as temporary:
        torch.save(dict(content), temporary)
    if replaced == "forget":
        previous_of(path).unlink(missing_ok=True)
        note_of_fresh_start(path).unlink(missing_ok=True)


def note_of_fresh_start(path: Path) -> Path:
    """A marker file beside a checkpoint of another run, from a fresh start until that checkpoint is replaced."""
    return path.with_name(f".{path.stem}_will_be_replaced")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Path]:
    """
    Read the last checkpoint; if it is damaged or missing, read the previous one, with a warning.

    Returns:
        its content, and the file that was read.

    Raises:
        InputError: if none can be read.
    """
    problems = []
    for candidate in (path, previous_of(path)):
        if not candidate.exists():
            continue
        try:
            content = load_weights_file(candidate)
        except InputError as error:
            problems.append(str(error))
            continue
        if candidate != path:
            reason = problems[0] if problems else f"there is no {path}"
            logger.warning("%s; resuming from the previous checkpoint, %s", reason, candidate)
        return content, candidate
    raise InputError(f"no checkpoint can be read: {'; '.join(problems)}. {_REMEDY}")


class AnnealingBranch:
    """
    Keep the checkpoint of the epoch before annealing, and find out whether a run goes on from it.

    Annealed weights have settled; a run that is made longer branches off before the annealing, as if there had been
    none (:class:`miram.optimizers.InfiniteRate`).

    Args:
        path: of the run's checkpoint; the kept one is `before_annealing.pt` beside it.
        epoch: the last epoch before the annealing; None keeps nothing.
    """

    def __init__(self, path: Path, epoch: int | None) -> None:
        self.path = path.with_name("before_annealing.pt")
        self.epoch = epoch

    def keep(self, content: Mapping[str, Any]) -> None:
        """Write a checkpoint's content, if it is that of the epoch."""
        at_its_end = content["iteration"] == content["epoch"] * content["epoch_length"]
        if content["epoch"] == self.epoch and at_its_end:
            write_checkpoint(self.path, content, "drop")

    def choose(self, path: Path, content: dict[str, Any]) -> dict[str, Any]:
        """
        The content from which a run goes on: the kept one, if the other is annealed and this run's annealing is later.

        Raises:
            InputError: if the kept one is needed and missing or damaged.
        """
        start = content["annealing_start"]
        if start is None or self.epoch is None or self.epoch <= start:
            return content
        if content["iteration"] <= start * content["epoch_length"]:
            return content
        if not self.path.is_file():
            raise InputError(
                f"{path} is annealed, and there is no {self.path} from which a longer run could go on: keep "
                f"max_epochs as it was, or start another run from these weights with --init {path}"
            )
        kept = load_weights_file(self.path)
        logger.warning(
            "%s is annealed and this run is longer: going on from %s, after epoch %d. The annealed files, backbone.pt "
            "too, will be replaced",
            path,
            self.path,
            kept.get("epoch"),
        )
        return kept


def warn_of_changes(path: Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Warn if, by their provenances, the rest of a run would see other samples than its beginning did."""
    for name in ("seed", "dataset"):
        if name in saved and saved[name] != own.get(name):
            logger.warning(
                "%s differs: %s has %s, this run has %s; the result will differ from that of an uninterrupted run",
                name,
                path,
                saved[name],
                own.get(name),
            )


def refuse_to_forget(path: Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """
    Refuse to resume a run that was allowed more than this one: its files would no longer say so.

    Raises:
        InputError: naming the option that was given before and is missing now.
    """
    for option, (before, now) in {
        "allow_test_patients True": [facts.get("test_images") for facts in (saved, own)],
        "allow_leakage images": [(facts.get("leakage") or {}).get("allowed") for facts in (saved, own)],
    }.items():
        if before and not now:
            raise InputError(
                f"{path} was trained with --{option}, but this run was started without it, and its weights would no "
                "longer record it; give that option again, or another --output_dir"
            )


def earlier_starts(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a run began with, if it resumes with another version, commit or config: a list "earlier"; otherwise {}."""
    earlier = list(saved.get("earlier", []))
    keys = ("miram", "commit", "config_sha256", "libraries")
    if any(saved.get(key) != own.get(key) for key in keys if key in saved):
        earlier.append({key: saved[key] for key in (*keys, "epoch", "iteration") if key in saved})
    return {"earlier": earlier} if earlier else {}


def check_same_network(path: Path, network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """
    Check that a checkpoint's weights have the names and shapes of the network's.

    Raises:
        InputError: naming some of the keys that differ.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    saved = {name: tuple(value.shape) for name, value in state.items()}
    different = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
    if different:
        shown = ", ".join(f"{name} ({saved.get(name)} saved, {own.get(name)} here)" for name in different[:3])
        raise InputError(
            f"{path} is of another architecture: {len(different)} of {len(own)} parameters differ, such as {shown}. "
            "Use the config it was made with, another output_dir, or --resume False to replace it."
        )
