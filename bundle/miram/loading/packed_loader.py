"""Whole batches from a packed store: a thread gathers windows, everything else happens on the device."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, ThreadBuffer

from miram.counter_random import Stream, random_uniform
from miram.data.datalist import Item
from miram.errors import InputError
from miram.loading.packed import PackedStore
from miram.loading.sampling import BalancedSampler
from miram.loading.seeded import SeededDataset, SeededSampler, check_batch_size
from miram.transforms.augment import RandomFlipRotate90, enlarge_corners
from miram.transforms.windows import exceeds_field_of_view, is_standard

logger = logging.getLogger(__name__)


def packed_or_files(
    files: DataLoader,
    store: PackedStore | None,
    crop_size: Sequence[int],
    preprocessing: Mapping[str, float],
    device: torch.device | str = "cpu",
    shards_at_once: int | None = None,
    crop_area: Sequence[float] | None = None,
) -> PackedLoader | DataLoader:
    """
    The loader of pretraining: from the packed copy where there is one and nobody wants other transforms.

    Args:
        files: the same from the files, by MONAI's transforms. Its samples, order and batch size are used.
        store: the packed copy, from :func:`miram.loading.packed.find_packed`; None if there is none.
        crop_size: the window, in pixels.
        preprocessing: "a_min" and "a_max", stored values, which become "b_min" and "b_max".
        device: where batches are made.
        shards_at_once: see :class:`PackedLoader`.
        crop_area: see :class:`PackedLoader`.

    Returns:
        `files` if there is no packed copy; if its transforms are not those of `configs/pretrain.yaml`, which the packed
        loader makes on the device; if a window may be larger than `crop_size`, and has to be smoothed before it
        shrinks; or if its sampler repeats crops, which the packed loader would augment alike.

    Raises:
        InputError: if `shards_at_once` is given, but `files` has another order.
    """
    dataset, sampler = files.dataset, files.sampler
    assert isinstance(dataset, SeededDataset)
    assert isinstance(sampler, SeededSampler)
    assert files.batch_size is not None
    if store is None:
        return files
    standard = is_standard(dataset.transform, crop_size, preprocessing, sampler.shuffle, crop_area)
    standard &= not exceeds_field_of_view(crop_area)
    if not standard or isinstance(sampler, BalancedSampler):
        what = "sampler" if standard else "transforms"
        logger.info("crops are read from their files: the packed loader does not support this run's %s", what)
        return files
    if shards_at_once is not None and type(sampler) is not SeededSampler:
        raise InputError("shards_at_once has an order of its own: leave it out, or the option that chooses samples")
    return PackedLoader(
        store,
        [{"image": sample["label"]} for sample in dataset.data],
        crop_size,
        files.batch_size,
        preprocessing,
        sampler.shuffle,
        device,
        sampler.seed,
        shards_at_once,
        crop_area=crop_area,
        order=sampler if shards_at_once is None else None,
    )


@dataclass(eq=False)
class PackedLoader:
    """
    A loader over this process's share of images, from the packed copy of a prepared folder.

    It yields the same batches as the MONAI transforms: a random window of each crop, flipped and rotated, in the
    network's units; in validation the central window. Window and rotation follow from (seed, epoch, sample). A window
    of another size is enlarged on the device, before anything is reduced from it: all scales show the same window.

    Raises:
        InputError: if the window is not 2D, or there are fewer images than one training batch.
    """

    store: PackedStore  # the packed copy of a prepared folder
    items: Sequence[Item]  # what to load, from :func:`miram.data.datalist.load_split`
    crop_size: Sequence[int]  # the window, in pixels
    batch_size: int  # images of one process in a batch
    preprocessing: Mapping[str, float]  # "a_min" and "a_max", stored values, become "b_min" and "b_max"
    shuffle: bool  # for training: another order and other windows in each epoch, and only full batches
    device: torch.device | str = "cpu"  # where batches are made
    seed: int = 0  # another seed gives other orders and augmentations
    # for a store larger than memory: an epoch goes through the shards in random order, this many at a time, and mixes
    # only the crops of these. None mixes all.
    shards_at_once: int | None = None
    prefetch: int = 2  # number of batches gathered in advance
    # in training, smallest and largest area of a window, as a share of `crop_size`'s and at most 1; see
    # :func:`miram.transforms.windows.random_window`. None keeps the size.
    crop_area: Sequence[float] | None = None
    order: SeededSampler | None = None  # another order; None goes through all items once in an epoch

    def __post_init__(self) -> None:
        if len(self.crop_size) != 2:
            window = tuple(self.crop_size)
            raise InputError(f"packed crops are 2D, the window {window} is not; add configs/transforms.yaml")
        self.numbers = [self.store.number(item["image"]) for item in self.items]
        self.augment = RandomFlipRotate90(self.seed)
        shards = [number // self.store.shard_length for number in self.numbers]
        self.sampler = self.order or _ShardSampler(shards, self.shards_at_once, self.shuffle, self.seed)
        if self.shuffle:
            check_batch_size(self.sampler.count(), self.batch_size, self.sampler.num_replicas)

    def __len__(self) -> int:
        """Number of batches in an epoch; in training the same in every process."""
        if self.shuffle:
            return len(self.sampler) // self.batch_size
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """
        Batches of "label" (B, 1, *crop_size) in float32 on the device, "index" (B,) and "epoch" (B,) on the CPU.

        The copy to the device and the steps after it are queued here, in the training thread: the gathering thread
        does not use the device.
        """
        for gathered in ThreadBuffer(_with_error(self.gathered()), self.prefetch):
            if isinstance(gathered, Exception):
                raise gathered
            window, epoch, index = gathered
            pixels = window.to(self.device, non_blocking=True)[:, None]
            yield {"label": self._finish(pixels, epoch, index), "index": index, "epoch": torch.full_like(index, epoch)}

    def gathered(self) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
        """The CPU's share of the work: windows (B, *crop_size) in uint16, their epoch, and their indices (B,)."""
        samples = list(self.sampler)  # fewer than in an epoch if a run resumes within it
        end = len(samples) - (len(samples) % self.batch_size if self.shuffle else 0)
        for first in range(0, end, self.batch_size):
            batch = samples[first : first + self.batch_size]
            index = torch.tensor([sample for _, sample in batch])
            epoch = batch[0][0]
            yield self._gather(epoch, index), epoch, index

    def _gather(self, epoch: int, index: torch.Tensor) -> torch.Tensor:
        on_gpu = torch.device(self.device).type == "cuda"
        windows = torch.zeros(len(index), *self.crop_size, dtype=torch.uint16, pin_memory=on_gpu)
        places = self._draws(epoch, index)[:, 4:6].tolist() if epoch else [(None, None)] * len(index)
        sides = self._sides(epoch, index).tolist()
        for window, sample, place, side in zip(windows.numpy(), index.tolist(), places, sides, strict=True):
            copy_window(self.store.crop(self.numbers[sample]), window, place, side)
        return windows

    def _draws(self, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """(B, 7) numbers in [0, 1): four of flips and rotations, two of the window's place, one of its size."""
        return random_uniform(self.seed, epoch, index, 7, stream=Stream.AUGMENTATION)

    def _sides(self, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """(B, 2) pixels of the windows."""
        size = torch.tensor(self.crop_size)
        if self.crop_area is None or not epoch:
            return size.expand(len(index), -1)
        low, high = self.crop_area
        area = low + (high - low) * self._draws(epoch, index)[:, 6:]
        return (size * area.sqrt()).round().clamp(min=1).long()

    def _finish(self, pixels: torch.Tensor, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """Windows (B, 1, *crop_size) as they were gathered, augmented and in the network's units."""
        if self.crop_area is not None and epoch:
            sides = self._sides(epoch, index).to(self.device, non_blocking=True)
            return self.augment(enlarge_corners(self._scaled(pixels), sides), epoch, index)
        turned = self.augment(pixels.view(torch.int16), epoch, index)  # in half the bytes; flips lack uint16
        return self._scaled(turned.view(torch.uint16))

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Stored values as float32 in the network's units."""
        low, high, b_min, b_max = (self.preprocessing[name] for name in ("a_min", "a_max", "b_min", "b_max"))
        factor = (b_max - b_min) / (high - low)
        return pixels.to(torch.float32).mul_(factor).add_(b_min - low * factor)


def _with_error(source: Iterable[Any]) -> Iterator[Any]:
    """What `source` yields, and at last the error that ended it: raised in a thread, it would end the epoch unseen."""
    try:
        yield from source
    except Exception as error:
        yield error


class _ShardSampler(SeededSampler):
    """Order that visits a few shards at a time; `shards` names the shard of each sample."""

    def __init__(self, shards: Sequence[int], shards_at_once: int | None, shuffle: bool, seed: int) -> None:
        super().__init__(len(shards), shuffle, seed)
        self.shards = torch.tensor(shards, dtype=torch.int64)
        self.shards_at_once = shards_at_once

    def shuffled(self, generator: torch.Generator) -> torch.Tensor:
        """All indices: shards in random order, and within a group of them crops in random order."""
        order = super().shuffled(generator)
        if self.shards_at_once is None or not len(order):
            return order
        turn = torch.randperm(int(self.shards.max()) + 1, generator=generator) // self.shards_at_once
        return order[turn[self.shards[order]].argsort(stable=True)]


def copy_window(crop: np.ndarray, window: np.ndarray, place: Sequence[float | None], side: Sequence[int]) -> None:
    """
    Copy a part of a crop into the first pixels of `window` (h, w); a crop smaller than that is centred in air, zeros.

    Args:
        crop: (H, W).
        window: the array to fill, zeros.
        place: in [0, 1) along each axis, the part's place within the crop; None is the middle.
        side: pixels of the part along each axis.
    """
    sizes = zip(crop.shape, window.shape, side, place, strict=True)
    source, target = zip(*(_overlap(*size) for size in sizes), strict=True)
    window[target] = crop[source]


def _overlap(size: int, window: int, side: int, place: float | None) -> tuple[slice, slice]:
    """Source and target of the copy along one axis; the middle is rounded as in MONAI's crops and pads."""
    padded = max(size, window)
    first = (padded // 2 - side // 2) if place is None else int(place * (padded - side + 1))
    first -= (padded - size) // 2  # air before the crop
    start = min(max(first, 0), size)
    end = max(min(first + side, size), start)
    return slice(start, end), slice(start - first, end - first)
