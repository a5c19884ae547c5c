"""The picture of a comparison: each method's metrics with their intervals."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miram.visualize.figures import save_figure


def plot_comparison(table: pd.DataFrame, path: str | os.PathLike[str], title: str) -> None:
    """
    Draw a panel for each metric and task, with a point and its interval for each method and label fraction.

    Args:
        table: the columns task, label_fraction, method, metric, value, low and high; NaN for missing values.
        path: the PNG to write.
        title: written at the top.
    """
    metrics, tasks = table["metric"].unique(), table["task"].unique()
    figure = Figure(figsize=(1.5 + 4 * len(tasks), 1 + 3 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), len(tasks), squeeze=False, sharey="row")
    for (row, column), axis in np.ndenumerate(panels):
        own = table[(table["metric"] == metrics[row]) & (table["task"] == tasks[column])]
        _draw(axis, own)
        axis.set_ylabel(f"{metrics[row]} (95 % interval)" if column == 0 else "")
        if row == 0:
            axis.set_title(str(tasks[column]).replace("_", " "))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize="medium")
    save_figure(figure, path, dpi=120)


def _draw(axis: Axes, table: pd.DataFrame) -> None:
    """One panel."""
    shares, methods = sorted(table["label_fraction"].unique()), table["method"].unique()
    offsets = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.6 / len(methods)
    for method, offset in zip(methods, offsets, strict=True):
        own = table[table["method"] == method].set_index("label_fraction").loc[shares]
        errors = np.stack([own["value"] - own["low"], own["high"] - own["value"]])
        # A percentile interval does not always contain the value.
        errors = np.clip(np.nan_to_num(errors), 0, None)
        axis.errorbar(np.arange(len(shares)) + offset, own["value"], yerr=errors, fmt="o", capsize=3, label=method)
    axis.set_xticks(range(len(shares)), [f"{share * 100:g} %" for share in shares])
    axis.set_xlim(-0.5, len(shares) - 0.5)
    axis.set_xlabel("labels of the training patients")
    axis.grid(axis="y", alpha=0.3)
