"""What a checkpoint's content must fit, and parts of a run that are no modules of torch."""

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
    Torch's generators, of the CPU and, in a run that uses one, of all GPUs.

    All processes are seeded alike, so that they build the same network; from the start of training on each draws its
    own numbers (:meth:`part`), so that stochastic depth drops other samples in each.
    """

    def part(self, number: int) -> None:
        """Seed them for the process of this number; the first goes on as it is."""
        if number > 0:
            torch.manual_seed(torch.initial_seed() + number)

    def state_dict(self) -> dict[str, Any]:
        """Their states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Restore them; those of GPUs only if there are as many as before."""
        torch.set_rng_state(states["cpu"])
        if torch.cuda.is_initialized() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])


def start_within(loader: Any, epoch: int, batches: int) -> None:
    """
    Let a loader leave out an epoch's first batches, without loading them.

    Args:
        loader: with a `sampler` and a `batch_size`.
        epoch: the epoch.
        batches: how many are done.

    Raises:
        TypeError: if its sampler is no :class:`miram.loading.seeded.SeededSampler`.
    """
    if not isinstance(loader.sampler, SeededSampler):
        raise TypeError(f"going on within an epoch needs a SeededSampler, not a {type(loader.sampler).__name__}.")
    loader.sampler.start_within(epoch, batches * loader.batch_size)


def warn_of_changes(path: Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Say if the rest of a run would see other samples than its beginning did, by their provenances."""
    for name in ("seed", "dataset"):
        if name in saved and saved[name] != own.get(name):
            logger.warning(
                "%s differs: %s has %s, this run has %s; what it learns from here on is not what one run would learn",
                name,
                path,
                saved[name],
                own.get(name),
            )


def refuse_to_forget(path: Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """
    Refuse to go on from a run that was allowed more than this one: its files would no longer say so.

    Raises:
        InputError: naming the option that was given then and is missing now.
    """
    options = {"allow_test_patients True": _test_images, "allow_leakage images": _allowed_leakage}
    for option, of in options.items():
        if of(saved) and not of(own):
            raise InputError(
                f"{path} was trained with --{option}, which this run is not, and its weights would not tell of it any "
                "more; give that option again, or another --output_dir"
            )


def _test_images(provenance: Mapping[str, Any]) -> object:
    return provenance.get("test_images")


def _allowed_leakage(provenance: Mapping[str, Any]) -> object:
    return (provenance.get("leakage") or {}).get("allowed")


def earlier_starts(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a run began with, where it goes on with another version, commit or config: "earlier", a list, or nothing."""
    earlier = list(saved.get("earlier", []))
    keys = ("miram", "commit", "config_sha256", "libraries")
    if any(saved.get(key) != own.get(key) for key in keys if key in saved):
        earlier.append({key: saved[key] for key in (*keys, "epoch", "iteration") if key in saved})
    return {"earlier": earlier} if earlier else {}


def check_same_network(path: Path, network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """
    Check that a checkpoint's weights are of the network's shape.

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
