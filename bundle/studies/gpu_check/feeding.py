"""Whether training is fed: crops per second of the loaders, and a step fed by the packed store or by one batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from miram.data.datalist import load_split
from miram.loading.packed import open_packed, pack_folder
from miram.loading.packed_loader import PackedLoader
from miram.loading.seeded import SeededDataset, make_loader
from miram.transforms.windows import standard_transforms
from studies.benchmark.step_cases import TrainingCase
from studies.gpu_check.settings import CheckSettings, Record, data_of
from studies.gpu_check.step_rates import DEFAULT, Measured, counted_case, seconds_per_step, synchronize

RANGES: dict[str, Any] = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


def check_loading(settings: CheckSettings, record: Record, seconds: float) -> None:
    """Record the crops per second of CPU time of every loader."""
    folder, side = data_of(settings), 2 * settings.sizes.image_size
    pack_folder(folder)
    for row in measure_loading(folder, side, batch_size=64, batches=4, repeats=3).to_dict("records"):
        record({str(name): value for name, value in row.items()})


def check_feeding(settings: CheckSettings, record: Record, seconds: float) -> None:
    """Record the default's step on one batch that never changes, and on batches from the packed copy."""
    pack_folder(data_of(settings))
    batch_size = settings.sizes.batch_sizes[0]
    case, _ = counted_case(Measured(DEFAULT, batch_size), settings)
    for _ in range(3):
        case()
    fixed = batch_size / seconds_per_step(case, settings.device, settings.sizes.seconds)
    record({"what": "one batch that never changes", "images_per_second": fixed})
    batches = _batches(settings, batch_size)
    for _ in range(3):
        _fed_step(case, next(batches))
    fed, waiting = _fed(case, batches, settings)
    row = {"what": "from the packed copy", "images_per_second": fed, "share": fed / fixed}
    record({**row, "host_waits_for_loader": waiting})


def _batches(settings: CheckSettings, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Training batches without end; a small folder is repeated, so that an epoch has at least sixteen."""
    side, items = 2 * settings.sizes.image_size, load_split(data_of(settings), "training")
    items = items * -(-16 * batch_size // len(items))
    loader = PackedLoader(
        open_packed(data_of(settings)), items, (side, side), batch_size, RANGES, True, settings.device
    )
    epoch = 0
    while True:
        epoch += 1
        loader.sampler.set_epoch(epoch)
        yield from loader


def _fed(
    case: TrainingCase, batches: Iterator[dict[str, torch.Tensor]], settings: CheckSettings
) -> tuple[float, float]:
    """Images per second, and the share of the time in which the host waited for a batch."""
    synchronize(settings.device)
    started, waited, images = time.perf_counter(), 0.0, 0
    while images == 0 or time.perf_counter() - started < settings.sizes.seconds:
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        _fed_step(case, batch)
        images += len(batch["index"])
    synchronize(settings.device)
    spent = time.perf_counter() - started
    return images / spent, waited / spent


def _fed_step(case: TrainingCase, batch: dict[str, Any]) -> None:
    case.label = batch["label"]
    case()


def measure_loading(
    dataset_dir: str | os.PathLike[str], crop_size: int = 448, batch_size: int = 64, batches: int = 8, repeats: int = 5
) -> pd.DataFrame:
    """
    Time the training loaders in turn, repeatedly, in one process with one torch thread.

    Args:
        dataset_dir: a prepared and packed folder of 2D crops.
        crop_size: side of the window that is read, in pixels.
        batch_size: images in a batch; fewer if the training split has fewer.
        batches: batches per loader and round, at most an epoch.
        repeats: rounds; one more is run first and not counted.

    Returns:
        one row per loader: "loader", "crops_per_cpu_second" (median over rounds; hardly affected by other work), "low"
        and "high" (its range), "crops_per_second" (median, wall time).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loaders = _loaders(dataset_dir, crop_size, batch_size)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
        for _ in range(repeats + 1):
            for name, make in loaders.items():
                rates[name].append(_rate(make(), batches))
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame([_row(name, rounds[1:]) for name, rounds in rates.items()])


def _loaders(
    dataset_dir: str | os.PathLike[str], crop_size: int, batch_size: int
) -> Mapping[str, Callable[[], Iterable[int]]]:
    """The timed loaders: each yields the numbers of crops in its batches."""
    items = load_split(dataset_dir, "training")
    samples = [{"label": item["image"]} for item in items]
    batch_size = min(batch_size, len(items))
    packed = PackedLoader(open_packed(dataset_dir), items, (crop_size, crop_size), batch_size, RANGES, True)
    transforms = standard_transforms((crop_size, crop_size), RANGES, random=True)
    plain = make_loader(SeededDataset(samples, transforms), batch_size, True)
    cached = make_loader(SeededDataset(samples, transforms, cache_rate=1.0), batch_size, True)
    loader: Any
    for loader in (packed, plain, cached):
        loader.sampler.set_epoch(1)
    return {
        "packed, gathered only (if a GPU augments)": lambda: (len(index) for _, _, index in packed.gathered()),
        "packed, augmented on the CPU": lambda: _sizes(packed),
        "MONAI transforms, from PNG": lambda: _sizes(plain),
        "MONAI transforms, crops cached in memory": lambda: _sizes(cached),
    }


def _sizes(loader: Iterable[dict[str, Any]]) -> Iterator[int]:
    return (len(batch["index"]) for batch in loader)


def _rate(sizes: Iterable[int], batches: int) -> tuple[float, float]:
    """Crops per second of CPU time of all threads, and per second of wall time."""
    cpu, clock, crops = time.process_time(), time.perf_counter(), 0
    for _, size in zip(range(batches), sizes, strict=False):
        crops += size
    return crops / (time.process_time() - cpu), crops / (time.perf_counter() - clock)


def _row(name: str, rounds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    cpu, clock = np.array(rounds).T
    return {
        "loader": name,
        "crops_per_cpu_second": float(np.median(cpu)),
        "low": float(cpu.min()),
        "high": float(cpu.max()),
        "crops_per_second": float(np.median(clock)),
    }
