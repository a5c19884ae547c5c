"""
Order and augmentation from (seed, epoch, sample) alone.

What a sample looks like in an epoch, and when it comes, does not depend on the number of processes or workers, or on
restarts: the sampler yields the epoch with each index, and the data set seeds its random transforms from both.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose
from torch.utils.data import DistributedSampler

from miram.errors import InputError


class SeededDataset(CacheDataset):
    """
    MONAI's `CacheDataset`, with random transforms that are seeded separately for each sample.

    Args:
        transform: MONAI transforms; their results before the first random one may be kept in memory.
        seed: another seed gives other augmentations.
        cache_rate: share of the items kept in memory, from 0 to 1.
        num_workers: threads that fill the cache.
        progress: show a progress bar while the cache is filled.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Compose,
        seed: int = 0,
        cache_rate: float = 0.0,
        num_workers: int | None = None,
        progress: bool = False,
    ) -> None:
        self.seed = seed
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress)

    def __getitem__(self, key: Any) -> Any:
        """
        Load and transform a sample.

        Args:
            key: (epoch, index), or an index alone, which means epoch 0. More numbers tell apart the times that a sample
                comes in an epoch, and give it other random transforms.

        Returns:
            the transformed item, with its "epoch" and its "index".

        Raises:
            InputError: if the image cannot be read or transformed; the message names it.
        """
        key = key if isinstance(key, tuple) else (0, key)
        epoch, index = key[:2]
        state = np.random.SeedSequence((self.seed, *key)).generate_state(1)
        self.transform.set_random_state(seed=int(state[0]))
        return {**super().__getitem__(index), "epoch": epoch, "index": index}

    def _transform(self, index: int) -> Any:
        with _naming(self.data[index]):
            return super()._transform(index)

    def _load_cache_item(self, idx: int) -> Any:
        with _naming(self.data[idx]):
            return super()._load_cache_item(idx)


@contextmanager
def _naming(item: dict[str, Any]) -> Iterator[None]:
    """Add the image's name to an error: MONAI's message names only the transform."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, InputError):  # already names the image
            raise InputError(str(cause)) from error
        name = item.get("image", item.get("label", item))  # in pretraining the image is stored as the label
        raise InputError(
            f"{name} cannot be read or transformed ({type(cause).__name__}: {cause}); if it is damaged, delete it and "
            "run the prepare script again, which creates missing files"
        ) from error


class SeededSampler(DistributedSampler):
    """
    Indices of one process's share of a data set, each with its epoch.

    Samples are dealt out in turn, so that in each global batch the processes together see exactly the samples that one
    process would see. No sample is repeated to fill up a share. In training, where gradients are exchanged, every
    process has the same number of samples: left-over samples at the end of the order are dropped. In validation a share
    may be one sample shorter than another.

    Args:
        num_samples: size of the data set.
        shuffle: for training: another order in each epoch; without it the epoch is always 0, so that masks and crops
            are fixed.
        seed: another seed gives other orders.
        num_replicas: number of processes; by default from `torch.distributed`.
        rank: number of this process; by default from `torch.distributed`.

    Raises:
        InputError: if a process would have no image to validate on, and would wait for the others forever.
    """

    def __init__(
        self,
        num_samples: int,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        replicas = num_replicas or (dist.get_world_size() if distributed else 1)
        rank = rank if rank is not None else (dist.get_rank() if distributed else 0)
        if not shuffle and 0 < num_samples < replicas:
            raise InputError(
                f"there are {num_samples} validation images, but {replicas} processes, and each needs at least one: "
                "use more validation images, or start fewer processes"
            )
        super().__init__(range(num_samples), replicas, rank, shuffle, seed)  # type: ignore[arg-type]
        self.position = (0, 0)

    def start_within(self, epoch: int, samples: int) -> None:
        """
        Continue within an epoch, as a resumed run does: earlier samples are not loaded.

        Args:
            epoch: this epoch only; all others are complete.
            samples: how many of its samples this process has already processed.
        """
        self.position = (epoch, samples)

    def __iter__(self) -> Iterator[tuple[int, ...]]:  # type: ignore[override]
        """The keys, (epoch, index), of this process that are still to come in this epoch."""
        if not self.shuffle:
            return iter([(0, index) for index in range(self.rank, self.count(), self.num_replicas)])
        epoch, samples = self.position
        share = self.epoch_keys()[self.rank :: self.num_replicas][: len(self)]
        return iter(share[samples if epoch == self.epoch else 0 :])

    def epoch_keys(self) -> list[tuple[int, ...]]:
        """The keys of all processes in this training epoch."""
        return [(self.epoch, int(index)) for index in self.order()]

    def order(self) -> np.ndarray:
        """The indices of all processes in this training epoch."""
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0])
        )
        return self.shuffled(generator).numpy()

    def shuffled(self, generator: torch.Generator) -> torch.Tensor:
        """All indices in the order of the epoch, the same in every process."""
        return torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """The number of samples of this process in a complete epoch."""
        if self.shuffle:
            return self.count() // self.num_replicas
        return len(range(self.rank, self.count(), self.num_replicas))

    def count(self) -> int:
        """The number of samples of all processes in an epoch."""
        return len(self.dataset)  # type: ignore[arg-type]


def make_loader(
    dataset: SeededDataset,
    batch_size: int,
    shuffle: bool,
    num_workers: int = 0,
    pin_memory: bool = False,
    sampler: SeededSampler | None = None,
) -> DataLoader:
    """
    MONAI's loader over this process's share of a data set.

    It does not use torch's global generator, so that a network's random numbers do not depend on how often a loader was
    started.

    Args:
        batch_size: images of one process in a batch.
        shuffle: for training: another order in each epoch, and only full batches, equally many in each process.
        num_workers: loader processes; 0 loads in this process.
        sampler: the order; None goes through the data set once in an epoch.

    Raises:
        InputError: if the data set is too small for one training batch.
    """
    sampler = sampler or SeededSampler(len(dataset), shuffle, dataset.seed)
    if shuffle:
        check_batch_size(sampler.count(), batch_size, sampler.num_replicas)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=shuffle,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),
        worker_init_fn=partial(_leave_signals_to_the_trainer, os.getpid()),
    )


def check_batch_size(num_images: int, batch_size: int, num_replicas: int) -> None:
    """Raise an InputError if a process does not get a training batch, or a batch has no image."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give at least 1")
    smallest_share = num_images // num_replicas
    if smallest_share < batch_size:
        raise InputError(
            f"the training set has {num_images} images, fewer than one batch of {batch_size} x {num_replicas} "
            f"process(es): set batch_size to {max(smallest_share, 1)} or less, or prepare more images"
        )


def _leave_signals_to_the_trainer(trainer: int, worker: int) -> None:
    """
    Ignore Ctrl-C and a batch queue's SIGTERM, which also reach loader processes: the trainer needs batches until its
    checkpoint is written. A loader process ends when the trainer tells it to, or has ended itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # on Linux: it says who sent a signal, which a handler does not know
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told_by, args=(trainer,), daemon=True).start()


def _end_when_told_by(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
