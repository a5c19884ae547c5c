"""The table of a comparison as CSV, as Markdown, and as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miram.data.datalist import DEMONSTRATION, says_generated
from miram.files import write_json, write_table, write_text
from miram.visualize.figures import save_figure
from studies.comparison.settings import FLOORS, Settings


def write_comparison(
    table: pd.DataFrame,
    settings: Settings,
    datalist: Mapping[str, Any],
    level: str = "lesion",
    margin: float = 0.02,
    provenance: Mapping[str, Any] | None = None,
) -> list[Path]:
    """
    Write comparison.csv, comparison.md and comparison.png, and comparison.json with their provenance.

    Probes and a number of folds are in the names of the files: comparison_linear_probe_5_folds.csv.

    Args:
        table: what :func:`studies.comparison.results.comparison_table` returns.
        datalist: names the data; figures from generated data are called a demonstration.
        level: the unit that the table counts.
        margin: margin of the verdicts.
        provenance: what :func:`miram.provenance.versions.provenance` returns for this table; each run of the comparison
            has its own.

    Returns:
        the files.
    """
    modes = [] if list(settings.modes) == ["finetune"] else settings.modes
    name = "_".join(["comparison", *modes, *([f"{settings.folds}_folds"] if settings.folds else [])])
    paths = [settings.output_dir / f"{name}.{suffix}" for suffix in ("csv", "md", "png", "json")]
    banner = DEMONSTRATION if says_generated(datalist) else ""
    write_table(paths[0], table)
    tested = how_tested(str(datalist.get("name", "unnamed data")), settings)
    write_text(paths[1], markdown(table, tested, banner, level, margin))
    own = table[table["reference"] == ""]
    own = own.assign(method=[_label(row) for _, row in own.iterrows()])
    title = f"{tested}, per {level}, mean over {_seeds(table)}"
    plot_comparison(own, paths[2], f"{title}\n{banner}".strip())
    facts = {"data": datalist.get("name"), "level": level, "margin": margin, "provenance": dict(provenance or {})}
    write_json(paths[3], facts)
    return paths


def how_tested(data: str, settings: Settings) -> str:
    """On which patients of the data the methods were tested, and by which modes, if not by fine-tuning alone."""
    folds = f"{settings.folds}-fold cross-validation over the patients" if settings.folds else "Test split"
    modes = "" if list(settings.modes) == ["finetune"] else f", {' and '.join(settings.modes).replace('_', ' ')}"
    return f"{folds} of {data}{modes}"


def markdown(table: pd.DataFrame, tested: str, banner: str, level: str, margin: float) -> str:
    """The table for readers: for each task and label fraction, one row per method."""
    lines = ["# Comparison", ""]
    if banner:
        lines += [f"**{banner}**", ""]
    lines += [
        f"{tested}, per {level}. Means over {_seeds(table)}, with 95 % intervals over patients and "
        "seeds; differences are paired, row minus column. Verdicts are on the AUC: superior (interval above 0), not "
        f"inferior (above -{margin:g}), inferior (below -{margin:g}), otherwise inconclusive. Times are means of "
        "training over seeds; operations are counted, not measured.",
        "",
    ]
    for _, cell in table.groupby(["task", "label_fraction"], sort=False):
        first = cell.iloc[0]
        lines += [
            f"## {first['task']}, {first['label_fraction'] * 100:g} % of the labels",
            "",
            f"{first['units']} units ({level}) of {first['patients']} patients.",
            "",
            *_rows(cell),
            "",
            *_notes(cell),
        ]
    return "\n".join(lines)


def _rows(cell: pd.DataFrame) -> list[str]:
    """The Markdown rows of one task and label fraction."""
    references = [name for name in cell["reference"].unique() if name]
    columns = [("", "AUC"), ("", "AP"), *((name, metric) for name in sorted(references) for metric in ("AUC", "AP"))]
    names = [f"{metric} - {name}" if name else metric for name, metric in columns]
    header = ["method", *names, "pretraining", "fine-tuning", "pretraining operations"]
    rows = [header, ["---"] * len(header)]
    for _, own in cell.groupby(["mode", "method"], sort=False):
        found = {(row["reference"], row["metric"]): row for _, row in own.iterrows()}
        texts = [_text(found[key]) if key in found else "" for key in columns]
        times = [f"{own.iloc[0][name]:.1f} s" for name in ("pretraining_seconds", "finetuning_seconds")]
        rows.append([_label(own.iloc[0]), *texts, *times, f"{own.iloc[0]['pretraining_flops'] / 1e15:.3g} PFLOP"])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _label(row: pd.Series) -> str:
    """The method, and by which probe it was judged, if by one; a floor has no encoder to probe."""
    probed = row["mode"] != "finetune" and row["method"] not in FLOORS
    return f"{row['method']}, {row['mode'].replace('_', ' ')}" if probed else str(row["method"])


def _text(row: pd.Series) -> str:
    """An estimate as text: value, interval, verdict."""
    if math.isnan(row["value"]):
        return "undefined"
    sign = "+" if row["reference"] else ""
    value = f"{row['value']:{sign}.3f}"
    if math.isnan(row["low"]):
        return f"{value} (no interval)"
    return f"{value} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}] {row['verdict']}".strip()


def _notes(cell: pd.DataFrame) -> list[str]:
    """Why values or intervals are missing."""
    reasons = [str(reason) for reason in cell["reason"].unique() if reason]
    return [f"No interval: {'; '.join(reasons)}.", ""] if reasons else []


def _seeds(table: pd.DataFrame) -> str:
    count = int(table["seeds"].iloc[0])
    return "1 seed" if count == 1 else f"{count} seeds"


def plot_comparison(table: pd.DataFrame, path: str | os.PathLike[str], title: str) -> None:
    """
    Draw a panel for each metric and task, with a point and its interval for each method and label fraction.

    Args:
        table: the columns task, label_fraction, method, metric, value, low and high; NaN for missing values.
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
