"""The curves of a run, from its history."""

from __future__ import annotations

import math
import os

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miram.visualize.figures import save_figure

_COLUMNS = 3  # more panels go into further rows


def plot_history(history: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """
    Draw the losses of a run and its learning rate over the epochs.

    Args:
        history: one row per epoch, as in `history.csv`: "epoch", "learning_rate", "train_loss..." and "val_loss..."
            per scale (and kind of target, if there are more than pixels), and the baselines "val_mean..." and
            "val_interpolation...".
    """
    scales = [name.removeprefix("train_loss_") for name in history.columns if name.startswith("train_loss_")]
    panels = len(scales) + 1
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, scale in zip(axes, scales, strict=False):
        _plot_scale(axis, history, scale)
    rate = axes[len(scales)]
    rate.plot(history["epoch"], history["learning_rate"], color="tab:gray")
    rate.set(xlabel="epoch", title="learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in axes[panels:]:
        axis.set_axis_off()
    save_figure(figure, path)


def _plot_scale(axis: Axes, history: pd.DataFrame, scale: str) -> None:
    """One loss in training and validation, and the baselines as horizontal lines."""
    axis.plot(history["epoch"], history[f"train_loss_{scale}"], label="training", color="tab:blue")
    column = f"val_loss_{scale}"
    if column in history and history[column].notna().any():
        validated = history[history[column].notna()]
        axis.plot(validated["epoch"], validated[column], label="validation", color="tab:orange", marker=".")
    for name, label, style in (("mean", "each patch's mean", ":"), ("interpolation", "interpolated", "--")):
        baseline = history.get(f"val_{name}_{scale}")
        if baseline is not None and baseline.notna().any():
            value = baseline.dropna().iloc[-1]
            axis.axhline(value, linestyle=style, color="black", linewidth=1, label=f"{label}: {value:.3f}")
    axis.set_ylim(*_loss_limits(history, scale))
    title = f"reconstruction at {scale}" if scale[0].isdigit() else scale.replace("_", " ")
    shown = "whole image" if scale.startswith("texture") else "hidden patches"
    axis.set(xlabel="epoch", ylabel=f"loss of the {shown}", title=title)
    axis.legend(fontsize="small")


def _loss_limits(history: pd.DataFrame, scale: str) -> tuple[float, float]:
    """
    The limits of the loss axis: they cover the last two thirds of the run, and the baseline of each patch's mean.

    The first epochs and the interpolated baseline can be many times higher and would flatten everything else.
    """
    names = [f"{kind}_{scale}" for kind in ("train_loss", "val_loss", "val_mean")]
    later = history[[name for name in names if name in history]].iloc[len(history) // 3 :]
    low, high = later.min().min(), later.max().max()
    margin = 0.1 * (high - low) + 1e-3
    return low - margin, high + margin
