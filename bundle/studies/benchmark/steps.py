"""The benchmark: every step is counted exactly, and timed in turn with all others."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from miram.errors import InputError
from studies.benchmark.peers import PEERS
from studies.benchmark.step_cases import StepSettings, TrainingCase, peer_case, peer_cost, variant_case, variant_cost
from studies.benchmark.step_cost import StepCost
from studies.benchmark.timing import matrix_rate, ratios, time_in_turn
from studies.benchmark.variants import make_variants

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkSettings:
    """
    What is measured.

    Args:
        encoder: "tiny", "small" or "base".
        names: forms of MIRAM and peers; the others are compared with the first.
        precisions: any of "float32" and "bfloat16".
        batch_size: images per step.
        repeats: rounds, in each of which all steps are timed once.
        device: the device.
        compiled: also time MIRAM's forms compiled, and on a GPU as CUDA graphs.
    """

    encoder: str
    names: Sequence[str]
    precisions: Sequence[str]
    batch_size: int
    repeats: int
    device: torch.device
    compiled: bool = False


@dataclass
class _Entry:
    """A step that can run."""

    case: TrainingCase
    cost: StepCost
    peak_bytes: int | None


def run_benchmark(settings: BenchmarkSettings) -> dict[str, Any]:
    """
    Measure.

    Returns:
        "machine" (without names), "versions", "settings", "steps" (one row per step and precision) and "left_out"
        (steps that could not run, with the reason).

    Raises:
        InputError: if a name is unknown.
    """
    steps: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for precision in settings.precisions:
        rows, failed = _measure(settings, precision)
        steps += rows
        left_out += failed
    return {
        "machine": machine(settings.device),
        "versions": versions("torch", "monai", "transformers", "lightly", "timm"),
        "settings": {**asdict(settings), "device": settings.device.type},
        "steps": steps,
        "left_out": left_out,
    }


def _measure(settings: BenchmarkSettings, precision: str) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The rows of one precision, whose networks are in memory together, and the steps that could not run."""
    entries, failed = _entries(settings, precision)
    return _rows(entries, settings, precision), failed


def _entries(settings: BenchmarkSettings, precision: str) -> tuple[dict[str, _Entry], list[dict[str, str]]]:
    """The steps of one precision that can run, and those that cannot."""
    step = StepSettings(settings.encoder, precision, settings.batch_size, settings.device)
    variants = make_variants(step.make_encoder())
    unknown = [name for name in settings.names if name not in variants and name not in PEERS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not one of {', '.join([*PEERS, *variants])}")
    entries: dict[str, _Entry] = {}
    failed = []
    for name in settings.names:
        logger.info("%s: %s", precision, name)
        if name in variants:
            cost = variant_cost(variants[name], step)
            try:
                entries[name] = _entry(variant_case(variants[name], step), cost)
                for form, mode in _compiled_forms(settings).items():
                    entries[f"{name}, {form}"] = _entry(variant_case(variants[name], step).compile(mode), cost)
            except torch.OutOfMemoryError as error:  # on a GPU: keep earlier measurements
                failed.append(_left_out(name, precision, error))
            continue
        try:
            entries[name] = _entry(peer_case(name, step), peer_cost(name, step))
        except Exception as error:  # that a peer is not installed or cannot run is also a result
            failed.append(_left_out(name, precision, error))
    return entries, failed


def _left_out(name: str, precision: str, error: Exception) -> dict[str, str]:
    reason = str(error).strip().splitlines()[:1]
    return {"name": name, "precision": precision, "reason": f"{type(error).__name__}: {''.join(reason)}"}


def _compiled_forms(settings: BenchmarkSettings) -> dict[str, str | None]:
    """Names and modes of `torch.compile`."""
    if not settings.compiled:
        return {}
    graphs: dict[str, str | None] = {"CUDA graphs": "reduce-overhead"}
    return {"compiled": None} | (graphs if settings.device.type == "cuda" else {})


def _entry(case: TrainingCase, cost: StepCost) -> _Entry:
    """Run a case once; on a GPU measure its peak memory beyond what was already in use."""
    if case.device.type != "cuda":
        case()
        return _Entry(case, cost, None)
    case()  # creates the optimizer's state and compiles
    case.optimizer.zero_grad(set_to_none=True)  # gradients count as memory of the step
    before = torch.cuda.memory_allocated(case.device)
    torch.cuda.reset_peak_memory_stats(case.device)
    case()
    return _Entry(case, cost, torch.cuda.max_memory_allocated(case.device) - before)


def _rows(entries: dict[str, _Entry], settings: BenchmarkSettings, precision: str) -> list[dict[str, Any]]:
    if not entries:
        return []
    steps = {name: entry.case for name, entry in entries.items()}
    seconds = time_in_turn(steps, settings.device, settings.repeats, progress=True)
    reference = next(iter(entries))
    relative = ratios(seconds, reference)
    on_gpu = settings.device.type == "cuda"
    best_rate = matrix_rate(settings.device, precision) if on_gpu else None
    base = entries[reference].cost
    rows = []
    for name, entry in entries.items():
        median = sorted(seconds[name])[len(seconds[name]) // 2]
        rate = settings.batch_size / median
        rows.append(
            {
                "name": name,
                "precision": precision,
                "flops": entry.cost.flops,
                "saved_bytes": entry.cost.saved_bytes,
                "flops_ratio": entry.cost.flops / base.flops,
                "saved_ratio": entry.cost.saved_bytes / base.saved_bytes,
                "time_ratio": asdict(relative[name]),
                "seconds": median,
                "images_per_second": rate,
                "peak_bytes": entry.peak_bytes,
                "mfu": None if best_rate is None else rate * entry.cost.flops / best_rate,
            }
        )
    return rows


def machine(device: torch.device) -> str:
    """A description of the machine, without names of hosts or people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {threads} thread{'s' * (threads > 1)} of torch"


def versions(*names: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
