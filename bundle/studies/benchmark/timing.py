"""Times that are robust on a busy machine: measured in turn, and compared within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles over rounds."""

    median: float
    low: float
    high: float


def step_clock(device: torch.device) -> float:
    """
    Seconds for timing steps: on a GPU wall time, after it has finished; on a CPU the CPU time of all threads, which
    other work on the machine hardly affects.
    """
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def time_in_turn(
    steps: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    warmup: int = 1,
    progress: bool = False,
) -> dict[str, list[float]]:
    """
    Run all steps in turn, round after round; each round starts with the next step.

    Args:
        steps: the steps by name.
        device: where they run.
        repeats: rounds that count.
        warmup: earlier rounds, which do not count.
        progress: show a progress bar.

    Returns:
        seconds by name, one per round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in tqdm(range(-warmup, repeats), desc="rounds", disable=not progress, leave=False):
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            started = step_clock(device)
            steps[name]()
            spent = step_clock(device) - started
            if number >= 0:
                seconds[name].append(spent)
    return seconds


def ratios(seconds: Mapping[str, list[float]], reference: str) -> dict[str, Ratio]:
    """Each step's time divided by the reference's in the same round."""
    base = np.array(seconds[reference])
    found = {}
    for name, values in seconds.items():
        low, median, high = np.quantile(np.array(values) / base, [0.25, 0.5, 0.75])
        found[name] = Ratio(float(median), float(low), float(high))
    return found


def matrix_rate(device: torch.device, precision: str, size: int = 4096, repeats: int = 20) -> float:
    """
    Operations per second of a large matrix product, the device's best rate; a step's MFU is its share of this rate.

    Args:
        device: where to measure.
        precision: "float32" or "bfloat16".
        size: rows and columns.
        repeats: products; the fastest counts.
    """
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    spent = time_in_turn({"product": lambda: matrix @ matrix}, device, repeats, warmup=3)["product"]
    return 2 * size**3 / min(spent)
