"""Whether training is fed: crops per second of the loaders, and a step fed by the packed store or by one batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from miram.data.datalist import load_split
from miram.loading.packed import pack_folder
from miram.loading.packed_loader import PackedLoader
from studies.benchmark.loading import RANGES, measure_loading
from studies.benchmark.step_cases import TrainingCase
from studies.gpu_check.noise import data_of
from studies.gpu_check.settings import CheckSettings, Record
from studies.gpu_check.step_rates import DEFAULT, Measured, make_case, seconds_per_step, synchronize


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
    case, _ = make_case(Measured(DEFAULT, batch_size), settings)
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
    loader = PackedLoader(data_of(settings), items, (side, side), batch_size, RANGES, True, settings.device)
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
