"""The curves of a run, from its history."""

from __future__ import annotations

import os

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miram.visualize.figures import save_figure


def plot_history(history: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """
    Draw the losses of a run and its learning rate over the epochs.

    Args:
        history: one row per epoch, as in `history.csv`: "epoch", "learning_rate", "train_loss..." and "val_loss..."
            per scale (and kind of target, if there are more than pixels), and the baselines "val_mean..." and
            "val_interpolation...".
        path: the PNG to write.
    """
    scales = [name.removeprefix("train_loss_") for name in history.columns if name.startswith("train_loss_")]
    figure = Figure(figsize=(5 * (len(scales) + 1), 4), layout="constrained")
    axes = figure.subplots(1, len(scales) + 1, squeeze=False)[0]
    for axis, scale in zip(axes, scales, strict=False):
        _plot_scale(axis, history, scale)
    axes[-1].plot(history["epoch"], history["learning_rate"], color="tab:gray")
    axes[-1].set(xlabel="epoch", title="learning rate")
    axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
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
    axis.set(xlabel="epoch", ylabel="loss of hidden patches", title=title)
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
