"""The table of a comparison as CSV, as Markdown, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from miram.data.datalist import DEMONSTRATION, says_generated
from miram.files import write_json, write_text
from studies.comparison.figure import plot_comparison
from studies.comparison.settings import Settings


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

    A probe and a number of folds are in the names of the files: comparison_linear_probe_5_folds.csv.

    Args:
        table: what :func:`studies.comparison.results.comparison_table` returns.
        settings: settings of the comparison.
        datalist: names the data; figures from generated data are called a demonstration.
        level: the unit that the table counts.
        margin: margin of the verdicts.
        provenance: what :func:`miram.provenance.versions.provenance` returns for this table; each run of the comparison
            has its own.

    Returns:
        the files.
    """
    name = "comparison" if settings.mode == "finetune" else f"comparison_{settings.mode}"
    name += f"_{settings.folds}_folds" if settings.folds else ""
    paths = [settings.output_dir / f"{name}.{suffix}" for suffix in ("csv", "md", "png", "json")]
    banner = DEMONSTRATION if says_generated(datalist) else ""
    write_text(paths[0], table.to_csv(index=False, float_format="%.6g"))
    tested = how_tested(str(datalist.get("name", "unnamed data")), settings)
    write_text(paths[1], markdown(table, tested, banner, level, margin))
    own = table[table["reference"] == ""]
    title = f"{tested}, per {level}, mean over {_seeds(table)}"
    plot_comparison(own, paths[2], f"{title}\n{banner}".strip())
    facts = {"data": datalist.get("name"), "level": level, "margin": margin, "provenance": dict(provenance or {})}
    write_json(paths[3], facts)
    return paths


def how_tested(data: str, settings: Settings) -> str:
    """On which patients of the data the methods were tested, and by which probe, if by one."""
    folds = f"{settings.folds}-fold cross-validation over the patients" if settings.folds else "Test split"
    probe = "" if settings.mode == "finetune" else f", {settings.mode.replace('_', ' ')}"
    return f"{folds} of {data}{probe}"


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
    for method, own in cell.groupby("method", sort=False):
        found = {(row["reference"], row["metric"]): row for _, row in own.iterrows()}
        texts = [_text(found[key]) if key in found else "" for key in columns]
        times = [f"{own.iloc[0][name]:.1f} s" for name in ("pretraining_seconds", "finetuning_seconds")]
        rows.append([str(method), *texts, *times, f"{own.iloc[0]['pretraining_flops'] / 1e15:.3g} PFLOP"])
    return ["| " + " | ".join(row) + " |" for row in rows]


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
