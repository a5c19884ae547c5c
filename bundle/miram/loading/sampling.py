"""Sampling that balances classes, from (seed, epoch) alone; and batch sizes for small training sets."""

from __future__ import annotations

import logging
import math

import numpy as np
from monai.data import DataLoader

from miram.errors import InputError
from miram.loading.seeded import SeededDataset, SeededSampler, loader_of, make_loader

logger = logging.getLogger(__name__)


class BalancedSampler(SeededSampler):
    """
    Draw samples with replacement, by weight, from (seed, epoch) alone; an epoch has as many draws as samples.

    Args:
        weights: (N,) one per sample, proportional to how often it is drawn.
        seed: another seed gives other draws.
        num_replicas: number of processes; by default from `torch.distributed`.
        rank: number of this process; by default from `torch.distributed`.
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
    A training loader.

    Args:
        dataset: whose items have "label" (K,).
        batch_size: images of one process in a batch.
        balanced: draw the classes equally often, instead of each sample once per epoch.
        num_workers: loader processes; 0 loads in this process.
        pin_memory: put batches into pinned memory, from which a GPU copies without waiting.
    """
    if not balanced:
        return make_loader(dataset, batch_size, True, num_workers, pin_memory)
    labels = np.stack([item["label"] for item in dataset.data])
    sampler = BalancedSampler(sample_weights(labels), dataset.seed)
    return loader_of(dataset, sampler, batch_size, num_workers, pin_memory)


def epochs_for(max_epochs: int, min_iterations: int, steps_per_epoch: int) -> int:
    """`max_epochs`, or as many as `min_iterations` batches need: with few labelled images, training has more epochs."""
    return max(max_epochs, math.ceil(min_iterations / steps_per_epoch))


def fitting_batch_size(batch_size: int, num_images: int, processes: int) -> int:
    """
    The batch size of a process, reduced if the training set does not fill one batch per process.

    Raises:
        InputError: if there are fewer images than processes.
    """
    fitting = min(batch_size, num_images // processes)
    if fitting == 0:
        raise InputError(f"{num_images} training images are too few for {processes} processes: use fewer processes")
    if fitting < batch_size:
        logger.info("batch_size is %d instead of %d: there are %d training images", fitting, batch_size, num_images)
    return fitting
