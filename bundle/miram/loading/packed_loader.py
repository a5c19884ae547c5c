"""Whole batches from a packed store: a thread gathers windows, everything else happens on the device."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from miram.transforms.augment import RandomFlipRotate90
from miram.transforms.windows import is_standard

logger = logging.getLogger(__name__)


def packed_or_files(
    files: DataLoader,
    store: PackedStore | None,
    crop_size: Sequence[int],
    preprocessing: Mapping[str, float],
    device: torch.device | str = "cpu",
    shards_at_once: int | None = None,
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

    Returns:
        `files` if there is no packed copy, its transforms are not those of `configs/pretrain.yaml`, which the packed
        loader makes on the device, or its sampler repeats crops, which the packed loader would augment alike.

    Raises:
        InputError: if `shards_at_once` is given, but `files` has another order.
    """
    dataset, sampler = files.dataset, files.sampler
    assert isinstance(dataset, SeededDataset)
    assert isinstance(sampler, SeededSampler)
    assert files.batch_size is not None
    if store is None:
        return files
    standard = is_standard(dataset.transform, crop_size, preprocessing, sampler.shuffle)
    if not standard or isinstance(sampler, BalancedSampler):
        what = "sampler" if standard else "transforms"
        logger.info("crops are read from their files: the packed loader does not have the %s of this run", what)
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
        sampler=sampler if shards_at_once is None else None,
    )


class PackedLoader:
    """
    A loader over this process's share of images, from the packed copy of a prepared folder.

    It yields the same batches as the MONAI transforms: a random window of each crop, flipped and rotated, in the
    network's units; in validation the central window. Window and rotation follow from (seed, epoch, sample).

    Args:
        store: the packed copy of a prepared folder.
        items: what to load, from :func:`miram.data.datalist.load_split`.
        crop_size: the window, in pixels.
        batch_size: images of one process in a batch.
        preprocessing: "a_min" and "a_max", stored values, which become "b_min" and "b_max".
        shuffle: for training: another order and other windows in each epoch, and only full batches.
        device: where batches are made.
        seed: another seed gives other orders and augmentations.
        shards_at_once: for a store larger than memory: an epoch goes through the shards in random order, this many at
            a time, and mixes only the crops of these. None mixes all.
        prefetch: number of batches gathered in advance.
        sampler: another order; None goes through all items once in an epoch.

    Raises:
        InputError: if the window is not 2D, or there are fewer images than one training batch.
    """

    def __init__(
        self,
        store: PackedStore,
        items: Sequence[Item],
        crop_size: Sequence[int],
        batch_size: int,
        preprocessing: Mapping[str, float],
        shuffle: bool,
        device: torch.device | str = "cpu",
        seed: int = 0,
        shards_at_once: int | None = None,
        prefetch: int = 2,
        sampler: SeededSampler | None = None,
    ) -> None:
        self.store = store
        self.numbers = [store.number(item["image"]) for item in items]
        if len(crop_size) != 2:
            raise InputError(f"packed crops are 2D, the window {tuple(crop_size)} is not; add configs/transforms.yaml")
        self.crop_size = tuple(crop_size)
        self.batch_size = batch_size
        self.preprocessing = dict(preprocessing)
        self.shuffle = shuffle
        self.device = torch.device(device)
        self.seed = seed
        self.prefetch = prefetch
        self.augment = RandomFlipRotate90(seed)
        shards = [number // self.store.shard_length for number in self.numbers]
        self.sampler = sampler or _ShardSampler(shards, shards_at_once, shuffle, seed)
        if shuffle:
            check_batch_size(self.sampler.count(), batch_size, self.sampler.num_replicas)

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
            pixels = window.to(self.device, non_blocking=True)[:, None].view(torch.int16)  # flips lack uint16
            pixels = self.augment(pixels, epoch, index).view(torch.uint16)
            yield {"label": self._scaled(pixels), "index": index, "epoch": torch.full_like(index, epoch)}

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
        windows = torch.zeros(len(index), *self.crop_size, dtype=torch.uint16, pin_memory=self.device.type == "cuda")
        # the first four numbers of the stream are used for flips and rotations
        draws = random_uniform(self.seed, epoch, index, 6, stream=Stream.AUGMENTATION)[:, 4:].tolist()
        places = draws if epoch else [(None, None)] * len(draws)
        for window, sample, place in zip(windows.numpy(), index.tolist(), places, strict=True):
            copy_window(self.store, self.numbers[sample], window, place)
        return windows

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


def copy_window(store: PackedStore, number: int, window: np.ndarray, place: tuple[float | None, float | None]) -> None:
    """
    Copy a part of a crop into `window` (h, w); a smaller crop is centred, and the zeros around it stay.

    Args:
        store: the packed crops.
        number: the crop's number.
        window: the array to fill.
        place: in [0, 1) along each axis, the window's place within the crop; None is the middle.
    """
    crop = store.crop(number)
    source, target = zip(*map(_overlap, crop.shape, window.shape, place), strict=True)
    window[target] = crop[source]


def _overlap(size: int, window: int, place: float | None) -> tuple[slice, slice]:
    """Source and target of the copy along one axis; the middle is rounded as in MONAI's crops and pads."""
    if size <= window:
        first = (window - size) // 2
        return slice(0, size), slice(first, first + size)
    first = (size // 2 - window // 2) if place is None else int(place * (size - window + 1))
    return slice(first, first + window), slice(0, window)
