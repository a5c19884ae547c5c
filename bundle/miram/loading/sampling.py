"""Sampling of some kinds more often than others, from (seed, epoch) alone; and batch sizes for small training sets."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from monai.data import DataLoader

from miram.data.datalist import Item
from miram.errors import InputError
from miram.loading.seeded import SeededDataset, SeededSampler, make_loader

logger = logging.getLogger(__name__)


class BalancedSampler(SeededSampler):
    """
    Draw samples with replacement, by weight, from (seed, epoch) alone; an epoch has as many draws as samples.

    A sample that comes again in an epoch has a third number in its key, 2 for the second time, and so on: it is
    augmented in another way.

    Args:
        weights: (N,) one per sample, proportional to how often it is drawn; for the others see :class:`SeededSampler`.
    """

    def __init__(
        self, weights: np.ndarray, seed: int = 0, num_replicas: int | None = None, rank: int | None = None
    ) -> None:
        super().__init__(len(weights), True, seed, num_replicas, rank)
        self.weights = np.asarray(weights, dtype=float) / np.sum(weights, dtype=float)

    def order(self) -> np.ndarray:
        """The indices of all processes in this epoch."""
        random = np.random.default_rng((self.seed, self.epoch, 2))
        return random.choice(len(self.weights), size=len(self) * self.num_replicas, p=self.weights)

    def epoch_keys(self) -> list[tuple[int, ...]]:
        """The keys of all processes in this training epoch."""
        times: Counter[tuple[int, ...]] = Counter()
        keys = []
        for key in super().epoch_keys():
            times[key] += 1
            keys.append(key if times[key] == 1 else (*key, times[key]))
        return keys


class ShareSampler(SeededSampler):
    """
    Draw marked samples with a given share, from (seed, epoch) alone.

    An epoch has each sample at most once, since a sample looks the same whenever it comes in an epoch. It ends when all
    marked samples, or all others, have come; of the other kind another part comes in each epoch.

    Args:
        marked: (N,) bool.
        share: of the marked samples in an epoch, above 0 and below 1; for the others see :class:`SeededSampler`.
    """

    def __init__(
        self,
        marked: Sequence[bool],
        share: float,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(len(marked), True, seed, num_replicas, rank)
        self.marked = np.asarray(marked, dtype=bool)
        total = min(self.marked.sum() / share, (~self.marked).sum() / (1 - share))
        self.counts = round(total * share), round(total * (1 - share))

    def count(self) -> int:
        """The number of samples of all processes in an epoch."""
        return sum(self.counts)

    def order(self) -> np.ndarray:
        """The indices of all processes in this epoch."""
        order = super().order()
        marked = self.marked[order]
        position = np.where(marked, marked.cumsum(), (~marked).cumsum())  # among its own kind, from 1
        return order[position <= np.where(marked, *self.counts)]


def lesion_sampler(items: Sequence[Item], lesion_share: float | None, seed: int = 0) -> SeededSampler:
    """
    The order in which pretraining goes through crops.

    Args:
        items: of the data list, in the data set's order.
        lesion_share: share of the crops of lesions among all; None takes all crops as they come.
        seed: another seed gives other orders.

    Raises:
        InputError: if the share is not between 0 and 1, or not both kinds of crops are there.
    """
    if lesion_share is None:
        return SeededSampler(len(items), True, seed)
    if not 0 < lesion_share < 1:
        raise InputError(f"lesion_share is {lesion_share}; give a number above 0 and below 1, or null for all crops")
    marked = [item.get("crop") == "lesion" for item in items]
    if all(marked) or not any(marked):
        raise InputError(
            f"lesion_share mixes crops of lesions and tissue, but {sum(marked)} of {len(marked)} training crops are of "
            "lesions; prepare the folder with --crops both, or leave lesion_share out"
        )
    return ShareSampler(marked, lesion_share, seed)


def sample_weights(labels: np.ndarray) -> np.ndarray:
    """
    Weights with which each class (and the absence of all classes) is drawn equally often.

    Args:
        labels: (N, K) 1 or 0.

    Returns:
        (N,): the weight of a sample's rarest class; samples without any class form a separate class.
    """
    table = np.concatenate([labels, (labels.sum(axis=1, keepdims=True) == 0)], axis=1)
    weights = 1 / np.maximum(table.sum(axis=0), 1)
    return np.asarray((table * weights).max(axis=1))


def make_training_loader(
    dataset: SeededDataset, batch_size: int, balanced: bool, num_workers: int = 0, pin_memory: bool = False
) -> DataLoader:
    """
    A training loader (:func:`miram.loading.seeded.make_loader`).

    Args:
        dataset: whose items have "label" (K,).
        balanced: draw the classes equally often, instead of each sample once per epoch.
    """
    sampler = None
    if balanced:
        labels = np.stack([item["label"] for item in dataset.data])
        sampler = BalancedSampler(sample_weights(labels), dataset.seed)
    return make_loader(dataset, batch_size, True, num_workers, pin_memory, sampler)


def epochs_for(max_epochs: int, min_iterations: int, steps_per_epoch: int) -> int:
    """
    `max_epochs`, or as many as `min_iterations` batches need: with few labelled images, training has more epochs.

    Raises:
        InputError: if `max_epochs` is not positive.
    """
    if max_epochs < 1:
        raise InputError(f"max_epochs is {max_epochs}; give at least 1")
    return max(max_epochs, math.ceil(min_iterations / steps_per_epoch))


def fitting_batch_size(batch_size: int, num_images: int, processes: int) -> int:
    """
    The batch size of a process, reduced if the training set does not fill one batch per process.

    Raises:
        InputError: if there are fewer images than processes, or a batch has no image.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give at least 1")
    fitting = min(batch_size, num_images // processes)
    if fitting == 0:
        raise InputError(f"{num_images} training images are too few for {processes} processes: use fewer processes")
    if fitting < batch_size:
        logger.info("batch_size is %d instead of %d: there are %d training images", fitting, batch_size, num_images)
    return fitting
