"""The pictures of an evaluation: ROC, precision and recall, calibration, confusion."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miram.visualize.figures import grid, save_figure

Marks = Mapping[str, tuple[float, float]]


def plot_roc(
    bands: Mapping[str, pd.DataFrame],
    path: str | os.PathLike[str],
    title: str,
    legends: Mapping[str, str] | None = None,
    marks: Marks | None = None,
) -> None:
    """
    Draw a ROC curve with its band for each class.

    Args:
        bands: what :func:`miram.metrics.curves.roc_band` returns, by class; an empty one is shown as undefined, and
            one whose `low` and `high` are NaN has no band.
        marks: by class, the operating point (false-positive rate, sensitivity).
    """
    figure, panels = _panels(list(bands), title)
    for (name, band), axis in zip(bands.items(), panels, strict=True):
        axis.plot([0, 1], [0, 1], linestyle=":", color="gray", linewidth=1, label="chance")
        _draw_band(axis, band, "false_positive_rate", "sensitivity", (legends or {}).get(name), (marks or {}).get(name))
        axis.set(xlabel="1 - specificity", ylabel="sensitivity")
        axis.legend(loc="lower right", fontsize="small")
    save_figure(figure, path, dpi=120)


def plot_precision_recall(
    bands: Mapping[str, pd.DataFrame],
    path: str | os.PathLike[str],
    title: str,
    prevalences: Mapping[str, float],
    legends: Mapping[str, str] | None = None,
    marks: Marks | None = None,
) -> None:
    """
    Draw a precision-recall curve with its band for each class; arguments as for :func:`plot_roc`.

    Args:
        bands: what :func:`miram.metrics.curves.precision_recall_band` returns, by class.
        prevalences: by class, the share of positives, which is the precision at chance level.
        marks: by class, the operating point (recall, precision).
    """
    figure, panels = _panels(list(bands), title)
    for (name, band), axis in zip(bands.items(), panels, strict=True):
        chance = prevalences[name]
        axis.axhline(chance, linestyle=":", color="gray", linewidth=1, label=f"chance ({chance:.2f})")
        _draw_band(axis, band, "recall", "precision", (legends or {}).get(name), (marks or {}).get(name))
        axis.set(xlabel="recall (sensitivity)", ylabel="precision")
        axis.legend(loc="lower left", fontsize="small")
    save_figure(figure, path, dpi=120)


def plot_reliability(
    curves: Mapping[str, pd.DataFrame],
    path: str | os.PathLike[str],
    title: str,
    legends: Mapping[str, str] | None = None,
    outcome: str = "frequency of the class",
) -> None:
    """
    Draw reliability diagrams: the observed frequency for each probability, and below it the share of samples.

    Args:
        curves: what :func:`miram.metrics.calibration.reliability_curve` returns, by class.
    """
    figure, panels = _panels(list(curves), title)
    for (name, curve), axis in zip(curves.items(), panels, strict=True):
        axis.plot([0, 1], [0, 1], linestyle=":", color="gray", linewidth=1, label="calibrated")
        if len(curve):
            total = curve["count"].sum()
            axis.bar(curve["confidence"], curve["count"] / total, width=0.04, color="lightsteelblue", label="share")
            label = (legends or {}).get(name, "frequency")
            # A bin with few samples has little weight in the calibration error, so its dot is small.
            axis.plot(curve["confidence"], curve["frequency"], color="tab:blue", linewidth=1.2, label=label)
            sizes = 12 + 140 * curve["count"] / total
            axis.scatter(curve["confidence"], curve["frequency"], s=sizes, color="tab:blue", zorder=3)
        else:
            _say_undefined(axis)
        axis.set(xlabel="predicted probability", ylabel=outcome)
        axis.legend(loc="best", fontsize="small")
    save_figure(figure, path, dpi=120)


def plot_confusion(
    matrices: Mapping[str, Sequence[Sequence[int]]],
    names: Mapping[str, Sequence[str]],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """
    Draw confusion matrices: counts, coloured by their share of the row.

    Args:
        matrices: by title, counts (rows: labels, columns: predictions).
        names: by the same titles, the names of rows and columns.
    """
    largest = max(len(matrix) for matrix in matrices.values())
    figure, panels = _panels(list(matrices), title, side=max(3.9, 0.75 * largest + 1.6), unit_axes=False)
    for (name, matrix), axis in zip(matrices.items(), panels, strict=True):
        counts = np.asarray(matrix)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count}\n{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
        ticks = range(len(counts))
        slanted = largest > 2 and max(map(len, names[name])) > 6
        axis.set_xticks(ticks, names[name], rotation=30 if slanted else 0, ha="right" if slanted else "center")
        axis.set_yticks(ticks, names[name], rotation=0 if largest > 2 else 90, va="center")
        axis.set(xlabel="called", ylabel="label")
    save_figure(figure, path, dpi=120)


def _panels(names: Sequence[str], title: str, side: float = 3.9, unit_axes: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with a square panel for each name; with several panels the name is the panel's title."""
    scale = 1.15 if len(names) == 1 else 1.0
    figure, panels = grid(len(names), 3, (side * scale, side * scale), margin=0.1 * scale)
    figure.suptitle(title, fontsize="medium")
    for name, axis in zip(names, panels, strict=True):
        if len(names) > 1:
            axis.set_title(name, fontsize="medium")
        if unit_axes:
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axis.grid(alpha=0.25)
    return figure, panels


def _draw_band(
    axis: Axes, band: pd.DataFrame, x: str, y: str, legend: str | None, mark: tuple[float, float] | None
) -> None:
    if band.empty:
        _say_undefined(axis)
        return
    if band["low"].notna().any():
        axis.fill_between(band[x], band["low"], band["high"], color="tab:blue", alpha=0.2, linewidth=0, label="band")
    axis.plot(band[x], band[y], color="tab:blue", label=legend or y)
    if mark is not None:
        axis.plot(*mark, marker="o", color="tab:red", linestyle="none", zorder=3, label="operating point")


def _say_undefined(axis: Axes) -> None:
    axis.text(0.5, 0.5, "undefined:\none class only", ha="center", va="center", color="gray", transform=axis.transAxes)
