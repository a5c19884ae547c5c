"""A progress bar in a terminal, and occasional lines of text in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(
    total: int,
    description: str,
    unit: str = "it",
    unit_scale: bool = False,
    iterable: Iterable[Any] | None = None,
    log_seconds: float = 30.0,
) -> tqdm:
    """
    A `tqdm` bar on standard error; if that is not a terminal, a line of text every `log_seconds`.

    Args:
        total: the number of steps; nothing is shown for 0.
        description: the text before the bar.
        unit: of `total`.
        unit_scale: write large numbers as 1.5k, 2.0G.
        iterable: what to iterate over, instead of calling `update`.
        log_seconds: shortest time between two lines of a log.
    """
    terminal = sys.stderr.isatty()
    line = "{desc}: {percentage:3.0f}% ({n_fmt} of {total_fmt} {unit}) in {elapsed}, {remaining} left\n"
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit_scale,
        disable=not total,
        bar_format=None if terminal else line,
        mininterval=0.1 if terminal else log_seconds,
        maxinterval=10.0 if terminal else log_seconds,
    )
