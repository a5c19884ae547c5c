"""Cases side by side: an image, and below it what the network attended to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch.nn import functional

from miram.visualize.figures import save_figure, sheet


@dataclass(frozen=True)
class Case:
    """One image of a sheet."""

    image: np.ndarray  # (H, W); one slice of a volume
    heat: np.ndarray | None  # (h, w) on the grid of patches, not negative, or None
    title: str  # the most important facts
    caption: str = ""  # which image it is


def plot_contact_sheet(cases: Sequence[Case], path: str | os.PathLike[str], title: str, note: str = "") -> None:
    """Draw cases in rows: each image, and below it the same image with its heat map, if any case has one."""
    overlaid = any(case.heat is not None for case in cases)
    figure, axes = sheet(len(cases), (2.3, 5.1 if overlaid else 2.8), 0.8, title, note)
    for axis, case in zip(axes, cases, strict=True):
        gray = _gray(case.image)
        blank = np.ones((len(gray) // 16, *gray.shape[1:]))  # between an image and its map
        below = np.ones_like(gray) if case.heat is None else overlay(case.image, case.heat)
        axis.imshow(np.concatenate([gray, blank, below]) if overlaid else gray)
        axis.set_title(f"{case.title}\n{fill(case.caption, 34)}", fontsize="x-small")
    save_figure(figure, path, dpi=120)


def plot_case(case: Case, path: str | os.PathLike[str], note: str = "") -> None:
    """Draw one case: the image, and next to it the same image with its heat map."""
    figure = Figure(figsize=(8, 4.7), layout="constrained")
    figure.suptitle(f"{case.caption}\n{case.title}", fontsize="medium")
    figure.supxlabel(note, fontsize="small")
    for axis in (axes := figure.subplots(1, 2)):
        axis.set_axis_off()
    axes[0].imshow(case.image, cmap="gray")
    if case.heat is not None:
        axes[1].imshow(overlay(case.image, case.heat))
    save_figure(figure, path, dpi=120)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """
    Overlay a heat map on an image; hotter places are more opaque.

    Args:
        image: (H, W), any range.
        heat: (h, w), not negative; its maximum gets the hottest colour.

    Returns:
        (H, W, 3) from 0 to 1.
    """
    warm = _unit(heat.astype(np.float64), low=0.0)
    size = image.shape
    smooth = functional.interpolate(torch.from_numpy(warm)[None, None], size=size, mode="bilinear")[0, 0].numpy()
    opacity = 0.75 * np.sqrt(smooth)[..., None]
    return (1 - opacity) * _gray(image) + opacity * colormaps["inferno"](smooth)[..., :3]


def _gray(image: np.ndarray) -> np.ndarray:
    """An image (H, W) as (H, W, 3) from 0 to 1."""
    return np.repeat(_unit(image.astype(np.float64))[..., None], 3, axis=2)


def _unit(values: np.ndarray, low: float | None = None) -> np.ndarray:
    """Stretch values to 0..1; all zero if they are constant."""
    low = float(values.min()) if low is None else low
    span = float(values.max()) - low
    return (values - low).clip(0) / (span if span > 0 else 1.0)
