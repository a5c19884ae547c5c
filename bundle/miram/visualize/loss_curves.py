"""The curves of a run, from its history."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from miram.visualize.figures import grid, save_figure

_NO_SCORES = ("val_loss", "val_mean", "val_interpolation")


def plot_history(history: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """
    Draw the losses of a run, its scores on the validation data, and its learning rate over the epochs.

    Args:
        history: one row per epoch, as in `history.csv`: "epoch", "learning_rate", "train_loss" and "val_loss", or
            several that begin so, per scale or part; the baselines "val_mean..." and "val_interpolation..."; and scores
            such as "val_auc".
    """
    losses = [name.removeprefix("train_loss") for name in history.columns if name.startswith("train_loss_")] or [""]
    scores = [name for name in history.columns if name.startswith("val_") and not name.startswith(_NO_SCORES)]
    figure, axes = grid(len(losses) + bool(scores) + 1, 3, (5, 4))
    for axis, loss in zip(axes, losses, strict=False):
        _plot_loss(axis, history, loss)
    if scores:
        _plot_scores(axes[len(losses)], history, scores)
    rate = axes[-1]
    rate.plot(history["epoch"], history["learning_rate"], color="tab:gray")
    rate.set(xlabel="epoch", title="learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    save_figure(figure, path)


def _plot_scores(axis: Axes, history: pd.DataFrame, names: Sequence[str]) -> None:
    """Scores on the validation data."""
    for name in names:
        validated = history[history[name].notna()]
        axis.plot(validated["epoch"], validated[name], label=name.removeprefix("val_"), marker=".")
    axis.set(xlabel="epoch", title="validation")
    axis.legend(fontsize="small")


def _plot_loss(axis: Axes, history: pd.DataFrame, loss: str) -> None:
    """One loss in training and validation, and the baselines as horizontal lines; `loss` is the end of its name."""
    axis.plot(history["epoch"], history[f"train_loss{loss}"], label="training", color="tab:blue")
    column = f"val_loss{loss}"
    if column in history and history[column].notna().any():
        validated = history[history[column].notna()]
        axis.plot(validated["epoch"], validated[column], label="validation", color="tab:orange", marker=".")
    for name, label, style in (("mean", "each patch's mean", ":"), ("interpolation", "interpolated", "--")):
        baseline = history.get(f"val_{name}{loss}")
        if baseline is not None and baseline.notna().any():
            value = baseline.dropna().iloc[-1]
            axis.axhline(value, linestyle=style, color="black", linewidth=1, label=f"{label}: {value:.3f}")
    axis.set_ylim(*_loss_limits(history, loss))
    name = loss.removeprefix("_").replace("_", " ")
    of_scale = re.search(r"\dx$", name) is not None
    shown = " of the whole image" if name.startswith("texture") else " of the hidden patches" if of_scale else ""
    title = f"reconstruction at {name}" if name[:1].isdigit() else name or "loss"
    axis.set(xlabel="epoch", ylabel=f"loss{shown}", title=title)
    axis.legend(fontsize="small")


def _loss_limits(history: pd.DataFrame, loss: str) -> tuple[float, float]:
    """
    The limits of the loss axis: they cover the last two thirds of the run, and the baseline of each patch's mean.

    The first epochs and the interpolated baseline can be many times higher and would flatten everything else.
    """
    names = [f"{kind}{loss}" for kind in ("train_loss", "val_loss", "val_mean")]
    later = history[[name for name in names if name in history]].iloc[len(history) // 3 :]
    low, high = later.min().min(), later.max().max()
    margin = 0.1 * (high - low) + 1e-3
    return low - margin, high + margin
