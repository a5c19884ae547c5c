"""The study's table and figure: quality and cost, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from miram.files import write_text
from miram.visualize.figures import save_figure

_MARKERS = "osD^v<>PX*hp"
MOMENTS = {"same_epochs": "After the same epochs", "same_time": "After the same time"}


def study_table(records: Sequence[dict[str, Any]], moment: str) -> pd.DataFrame:
    """
    One row per variant and seed: cost relative to MAE's, and the quality of the network.

    Args:
        records: what :func:`studies.benchmark.decoder_study.run_study` returns.
        moment: "same_epochs" or "same_time".
    """
    table = pd.DataFrame(
        [
            {**{name: record[name] for name in ("variant", "seed", "flops", "saved_bytes")}, **record[moment]}
            for record in records
        ]
    )
    base = table[table["variant"] == "mae"].set_index("seed")
    for name in ("flops", "saved_bytes", "seconds"):
        table[name] = table[name] / table["seed"].map(base[name])
    return table


def write_study(records: Sequence[dict[str, Any]], output_dir: Path) -> list[Path]:
    """Write study.md, study.csv and study.png; returns their paths."""
    parts, tables = [], []
    for moment, title in MOMENTS.items():
        table = study_table(records, moment)
        tables.append(table.assign(moment=moment))
        parts.append(f"## {title}\n\n{_markdown(table)}\n")
    notes = {record["variant"]: record["note"] for record in records}
    parts.append("\n".join(f"- `{name}`: {note}" for name, note in notes.items()) + "\n")
    text, rows, picture = (output_dir / f"study.{kind}" for kind in ("md", "csv", "png"))
    write_text(text, "# Quality per cost\n\n" + "\n".join(parts))
    write_text(rows, pd.concat(tables).to_csv(index=False))
    _draw(tables[0], picture)
    return [text, rows, picture]


def _markdown(table: pd.DataFrame) -> str:
    """Means over seeds, followed by half of the range."""
    columns = [name for name in table.columns if name not in ("variant", "seed", "moment")]
    lines = [" | ".join(["variant", *columns]), " | ".join(["---"] * (1 + len(columns)))]
    for name, rows in table.groupby("variant", sort=False):
        lines.append(" | ".join([str(name), *(_spread(rows[column]) for column in columns)]))
    return "\n".join(f"| {line} |" for line in lines)


def _spread(values: pd.Series) -> str:
    """Mean and half of the range over seeds."""
    if values.isna().all():
        return ""
    half = (values.max() - values.min()) / 2
    digits = 0 if values.abs().max() >= 100 else 1 if values.abs().max() >= 10 else 3
    return f"{values.mean():.{digits}f}" + (f" ± {half:.{digits}f}" if half > 0 else "")


def _draw(table: pd.DataFrame, path: Path) -> None:
    """One panel per measure of quality, over the operations of a step; one point per seed."""
    panels = [name for name in ("error_1x", "error_2x", "rank", "knn_auc") if name in table]
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    figure.suptitle(f"{MOMENTS['same_epochs']}; one point per seed")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for number, (name, rows) in enumerate(table.groupby("variant", sort=False)):
            axis.plot(rows["flops"], rows[panel], marker=_MARKERS[number % len(_MARKERS)], linestyle="", label=name)
        axis.set(xlabel="operations of a step, MAE = 1", title=panel.replace("_", " "))
    axes[-1].legend(fontsize="small")
    save_figure(figure, path, dpi=120)
