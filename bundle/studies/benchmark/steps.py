"""The benchmark: every step is counted exactly, and timed in turn with all others."""

from __future__ import annotations

import itertools
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miram.errors import InputError
from miram.files import write_json, write_text
from miram.progress import progress_bar
from miram.provenance.versions import installed
from studies.benchmark.peers import PEERS
from studies.benchmark.step_cases import StepSettings, TrainingCase, count_cost, make_case
from studies.benchmark.step_cost import StepCost
from studies.benchmark.variants import make_variants

logger = logging.getLogger(__name__)

GROWTH_SIZES = ((224, 224), (448, 448), (96, 96, 96))
GROWTH_FORMS = ("mae", "paper", "full", "cross_attention", "three_scales")


def run_benchmark(names: Sequence[str], settings: Sequence[StepSettings], repeats: int) -> dict[str, Any]:
    """
    Count and time steps.

    Args:
        names: forms of MIRAM and peers; the others are compared with the first.
        settings: of the steps, one for each precision.
        repeats: rounds, in each of which all steps are timed once.

    Returns:
        "machine" (without names), "versions", "settings", "steps" (one row per step and precision: see
        :func:`step_rows`) and "left_out" (steps that could not run, with the reason).

    Raises:
        InputError: if a name is unknown.
    """
    known = [*PEERS, *make_variants(settings[0].make_encoder())]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not one of {', '.join(known)}")
    steps: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for common in settings:
        costs: dict[str, StepCost] = {}
        cases: dict[str, TrainingCase] = {}
        for name in names:
            logger.info("%s: %s", common.precision, name)
            try:
                case, cost = make_case(name, common), count_cost(name, common)
                case()
                cases[name], costs[name] = case, cost
            except Exception as error:  # that a peer is not installed, or memory is too small, is also a result
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                left_out.append({"name": name, "precision": common.precision, "reason": reason})
        seconds = time_in_turn(cases, common.device, repeats)
        steps += [{"precision": common.precision, **row} for row in step_rows(costs, seconds, common.batch_size)]
    first = settings[0]
    return {
        "machine": machine(first.device),
        "versions": installed(["torch", "monai", "transformers", "lightly", "timm"]),
        "settings": {"encoder": first.encoder, "batch_size": first.batch_size, "repeats": repeats},
        "steps": steps,
        "left_out": left_out,
    }


def step_rows(
    costs: Mapping[str, StepCost], seconds: Mapping[str, list[float]], batch_size: int
) -> list[dict[str, Any]]:
    """
    A row for each step, relative to the first.

    Args:
        seconds: of each round, by name.

    Returns:
        "name", "gflop", "saved_mib" (of an image), "flops_ratio", "saved_ratio", "time_ratio" (median of the rounds,
        each relative to the first step's time in the same round), "time_low", "time_high" (its quartiles), "seconds"
        (median), "images_per_second".
    """
    rows = []
    for name, cost in costs.items():
        reference = next(iter(costs))
        low, ratio, high = np.quantile(np.divide(seconds[name], seconds[reference]), [0.25, 0.5, 0.75])
        median = float(np.median(seconds[name]))
        rows.append(
            {
                "name": name,
                **_count(cost, costs[reference]),
                **{"time_ratio": float(ratio), "time_low": float(low), "time_high": float(high)},
                **{"seconds": median, "images_per_second": batch_size / median},
            }
        )
    return rows


def time_in_turn(
    steps: Mapping[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, list[float]]:
    """
    Run all steps in turn, round after round; each round starts with the next step, and the first does not count.

    Args:
        device: where they run. On a GPU times are wall time; on a CPU the CPU time of all threads, which other work on
            the machine hardly affects.
        repeats: rounds that count.

    Returns:
        seconds by name, one per round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in progress_bar(repeats + 1, "Rounds", iterable=range(repeats + 1)):
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            started = _clock(device)
            steps[name]()
            if number:
                seconds[name].append(_clock(device) - started)
    return seconds


def _clock(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def count_growth(encoder: str) -> list[dict[str, Any]]:
    """
    Count forms with one, two and three scales on images of several sizes in 2D and 3D, with patches of 16, in bf16.

    Args:
        encoder: "tiny", "small" or "base".

    Returns:
        rows with "image", "name", "scales" and the counts, relative to MAE on the smallest image.
    """
    rows, base = [], None
    for image_size, name in itertools.product(GROWTH_SIZES, GROWTH_FORMS):
        settings = StepSettings(encoder, "bfloat16", 1, torch.device("cpu"), image_size, [16] * len(image_size))
        cost = count_cost(name, settings)
        base = base or cost
        decoders = make_variants(settings.make_encoder())[name]
        scales = ", ".join(f"{decoder['scale']:g}x" for decoder in decoders)
        rows.append({"image": " x ".join(map(str, image_size)), "name": name, "scales": scales, **_count(cost, base)})
    return rows


def _count(cost: StepCost, base: StepCost) -> dict[str, float]:
    return {
        "gflop": cost.flops / 1e9,
        "flops_ratio": cost.flops / base.flops,
        "saved_mib": cost.saved_bytes / 2**20,
        "saved_ratio": cost.saved_bytes / base.saved_bytes,
    }


def write_benchmark(result: dict[str, Any], output_dir: Path) -> list[Path]:
    """Write benchmark.json and benchmark.md; returns their paths."""
    paths = [output_dir / "benchmark.json", output_dir / "benchmark.md"]
    write_json(paths[0], result)
    parts = {"Steps, relative to the first": "steps", "Left out": "left_out", "Growth, counted": "growth"}
    parts |= {"Kernels of the default's eager step in bf16, counted": "kernels"}
    lines = [*heading("Benchmark", result), "", f"Settings: {result['settings']}"]
    for title, name in parts.items():
        if result.get(name):
            lines += ["", f"## {title}", "", *table(result[name])]
    write_text(paths[1], "\n".join(lines) + "\n")
    return paths


def heading(title: str, result: Mapping[str, Any]) -> list[str]:
    """The first lines of a report: what was measured on which machine with which versions."""
    found = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return [f"# {title}", "", f"Machine: {result['machine']}. {found}."]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as a Markdown table with the columns that they have; a cell without a value is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells] if columns else []


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(device: torch.device) -> str:
    """A description of the machine, without names of hosts or people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {threads} thread{'s' * (threads > 1)} of torch"
