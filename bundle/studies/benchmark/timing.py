"""Times that a busy machine does not spoil: taken in turn, and compared within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm


@dataclass(frozen=True)
class Ratio:
    """The median over rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def step_clock(device: torch.device) -> float:
    """
    Seconds for timing steps: on a GPU those of the clock, once it has finished; on a CPU those of the processor, all
    threads together, which other work on the machine changes little.
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
    Run all steps in turn, round after round, each round starting one further.

    Args:
        steps: by name.
        device: where they run.
        repeats: rounds that count.
        warmup: rounds before, which do not.
        progress: show a bar.

    Returns:
        seconds by name, one a round.
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
    """Each step's time over the reference's of the same round."""
    base = np.array(seconds[reference])
    found = {}
    for name, values in seconds.items():
        low, median, high = np.quantile(np.array(values) / base, [0.25, 0.5, 0.75])
        found[name] = Ratio(float(median), float(low), float(high))
    return found


def matrix_rate(device: torch.device, precision: str, size: int = 4096, repeats: int = 20) -> float:
    """
    Operations a second of a large matrix product: what the device can do at best, of which a step's share is its MFU.

    Args:
        device: where to measure.
        precision: "float32" or "bfloat16".
        size: rows and columns.
        repeats: products; the fastest counts.
    """
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    spent = time_in_turn({"product": lambda: matrix @ matrix}, device, repeats, warmup=3)["product"]
    return 2 * size**3 / min(spent)
