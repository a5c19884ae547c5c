"""Images per second, memory and share of the peak rate of whole training steps, one after the other."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch.utils.benchmark import Timer

from studies.benchmark.step_cases import StepSettings, TrainingCase, count_cost, make_case
from studies.gpu_check.settings import CheckSettings, Record, Sizes

PRECISION = "bfloat16"
DEFAULT = "cross_attention"  # the form of configs/pretrain.yaml


@dataclass(frozen=True)
class Measured:
    """A step to be measured: its name, how many images it takes, and whether it is compiled."""

    name: str
    batch_size: int
    compiled: bool = False


def planned(sizes: Sizes) -> Iterator[Measured]:
    """The steps, the most important first: there may not be time for all."""
    first, *others = sizes.batch_sizes
    for compiled in (False, True):
        yield from (Measured(name, first, compiled) for name in (DEFAULT, "transformers"))
    yield from (Measured(name, first) for name in ("mae", "mae_narrow", "three_scales", "lightly"))
    yield Measured("paper", others[0])
    yield from (Measured(DEFAULT, size) for size in others)
    yield from (Measured(name, first, True) for name in ("mae", "three_scales"))
    yield from (Measured(DEFAULT, size, True) for size in others)


def check_steps(settings: CheckSettings, record: Record, seconds: float) -> None:
    """Record a row for each step; a step that cannot run has the reason in its row."""
    peak = matrix_rate(settings.device) if settings.device.type == "cuda" else None
    if peak is not None:
        record({"name": "a matrix product of 4096 x 4096", "flops_per_second": peak})
    for step in islice(planned(settings.sizes), settings.sizes.steps):
        row = {"name": step.name, "batch_size": step.batch_size, "form": "compiled" if step.compiled else "eager"}
        try:
            record({**row, **measure(step, settings, peak)})
        except Exception as error:  # out of memory, or a library that is not there: also a result
            record({**row, "reason": f"{type(error).__name__}: {error}".splitlines()[0]})
        gc.collect()
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()


def measure(step: Measured, settings: CheckSettings, peak: float | None) -> dict[str, Any]:
    """The figures of a step."""
    if settings.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
    case, flops = counted_case(step, settings)
    started = time.perf_counter()
    case()
    case()  # the second creates no state any more, and compiles what depends on it
    synchronize(settings.device)
    first = time.perf_counter() - started
    seconds = seconds_per_step(case, settings.device, settings.sizes.seconds)
    rate = step.batch_size / seconds
    on_gpu = settings.device.type == "cuda"
    return {
        "images_per_second": rate,
        "mfu": None if peak is None else rate * flops / peak,
        "peak_gib": torch.cuda.max_memory_allocated(settings.device) / 2**30 if on_gpu else None,
        "seconds_of_two_first_steps": first,
        "flops_per_image": flops,
    }


def counted_case(step: Measured, settings: CheckSettings) -> tuple[TrainingCase, int]:
    """The step, and its counted operations per image."""
    sides = (settings.sizes.image_size,) * 2
    common = StepSettings(settings.sizes.encoder, PRECISION, step.batch_size, settings.device, sides)
    case = make_case(step.name, common)
    if step.compiled:
        torch.compiler.reset()  # dynamo compiles only so many steps that share their code
        case.run = torch.compile(case.step, dynamic=False, backend=settings.sizes.backend)  # type: ignore[assignment]
    return case, _flops(step.name, settings.sizes.encoder, sides)


@cache
def _flops(name: str, encoder: str, sides: tuple[int, int]) -> int:
    return count_cost(name, StepSettings(encoder, PRECISION, 2, torch.device("cpu"), sides)).flops


def seconds_per_step(case: TrainingCase, device: torch.device, seconds: float) -> float:
    """The mean time of at least three steps within about so many seconds."""
    synchronize(device)
    started, steps = time.perf_counter(), 0
    while steps < 3 or time.perf_counter() - started < seconds:
        case()
        steps += 1
        if steps % 4 == 0:  # the queue of a GPU is long: without this, far more steps would be queued
            synchronize(device)
    synchronize(device)
    return (time.perf_counter() - started) / steps


def matrix_rate(device: torch.device, size: int = 4096, repeats: int = 20) -> float:
    """Operations per second of a large matrix product, the best rate of the device; a step's MFU is its share of it."""
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, PRECISION))
    timer = Timer("matrix @ matrix", globals={"matrix": matrix})
    return 2 * size**3 / min(timer.timeit(1).mean for _ in range(repeats))


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
