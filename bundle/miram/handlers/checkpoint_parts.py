"""Checks of a checkpoint's content, and parts of its state that are not torch modules."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from miram.errors import InputError
from miram.loading.seeded import SeededSampler

logger = logging.getLogger(__name__)


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


def start_within(loader: Any, epoch: int, batches: int) -> None:
    """
    Make a loader skip the first batches of an epoch, without loading them.

    Args:
        loader: with a `sampler` and a `batch_size`.
        epoch: the epoch.
        batches: how many are done.

    Raises:
        TypeError: if its sampler is not a :class:`miram.loading.seeded.SeededSampler`.
    """
    if not isinstance(loader.sampler, SeededSampler):
        raise TypeError(f"resuming within an epoch needs a SeededSampler, not a {type(loader.sampler).__name__}.")
    loader.sampler.start_within(epoch, batches * loader.batch_size)


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
    options = {"allow_test_patients True": _test_images, "allow_leakage images": _allowed_leakage}
    for option, of in options.items():
        if of(saved) and not of(own):
            raise InputError(
                f"{path} was trained with --{option}, but this run was started without it, and its weights would no "
                "longer record it; give that option again, or another --output_dir"
            )


def _test_images(provenance: Mapping[str, Any]) -> object:
    return provenance.get("test_images")


def _allowed_leakage(provenance: Mapping[str, Any]) -> object:
    return (provenance.get("leakage") or {}).get("allowed")


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
