"""A self-contained page about an evaluation: tables, pictures and provenance."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from miram.files import write_text

METRIC_NAMES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity_at_specificity": "sensitivity at {specificity:.0%} specificity",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error, ECE (lower is better)",
}

INTENDED_USE = "Research use only. Not a medical device; not for diagnosis, screening or treatment of patients."

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
.subtitle { color: #56657a; margin-top: 0; }
.banner { background: #fff4d6; border-left: 5px solid #e0a800; padding: .7rem 1rem; margin: 1rem 0; }
.use { background: #eef2f7; border-left: 5px solid #7b8ba3; padding: .7rem 1rem; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #dde3ea; vertical-align: top; }
thead th { border-bottom: 2px solid #9aa8b8; }
tbody th { font-weight: normal; }
.interval, .reason { color: #56657a; font-size: .85em; white-space: nowrap; }
.reason { white-space: normal; }
.pictures { display: grid; grid-template-columns: repeat(2, 1fr); gap: 1rem; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
figure img { width: 100%; border: 1px solid #dde3ea; }
figcaption { font-size: .85em; color: #56657a; }
.scroll { overflow-x: auto; }
code { overflow-wrap: anywhere; font-size: .88em; }
@media (max-width: 40rem) { .pictures { grid-template-columns: 1fr; } }
@media print { body { max-width: none; } h2, figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the report."""

    path: Path  # a PNG, which is embedded in the page
    caption: str  # what it shows
    wide: bool = False  # whether it takes the full width


def write_report(
    path: str | os.PathLike[str],
    title: str,
    subtitle: str,
    metrics: Mapping[str, Any],
    pictures: Sequence[Picture],
    facts: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
    banner: str = "",
) -> None:
    """
    Write a self-contained page.

    Args:
        subtitle: below the heading: what was evaluated on which data.
        metrics: what :func:`miram.metrics.evaluation.evaluate_predictions` returns.
        facts: by heading, names and values: the data, the model, the versions.
        notes: what the reader must know to judge the numbers.
        banner: a warning at the top, such as that the data are generated.
    """
    results = metrics_table(metrics) + _interval_note(metrics) + _note_list(notes) + _class_tables(metrics)
    write_page(path, title, subtitle, results, pictures, facts, banner)


def write_page(
    path: str | os.PathLike[str],
    title: str,
    subtitle: str,
    results: str,
    pictures: Sequence[Picture],
    facts: Mapping[str, Mapping[str, Any]],
    banner: str = "",
) -> None:
    """Write a self-contained page; `results` is HTML, all else as for :func:`write_report`."""
    parts = [
        f"<h1>{escape(title)}</h1><p class='subtitle'>{escape(subtitle)}</p>",
        f"<p class='banner'>{escape(banner)}</p>" if banner else "",
        f"<p class='use'>{escape(INTENDED_USE)}</p>",
        "<h2>Results</h2>" + results,
        "<h2>Pictures</h2><div class='pictures'>" + "".join(map(_figure, pictures)) + "</div>",
        *(f"<h2>{escape(heading)}</h2>{_fact_table(values)}" for heading, values in facts.items()),
    ]
    body = "\n".join(part for part in parts if part)
    write_text(
        path,
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
    )


def estimate_table(
    columns: Sequence[str], rows: Mapping[str, Sequence[Mapping[str, Any]]], notes: Sequence[str] = (), first: str = ""
) -> str:
    """
    A table of values with intervals as HTML.

    Args:
        rows: by heading, for each column an estimate (:class:`miram.metrics.bootstrap.Estimate`) as a dictionary.
        notes: listed below.
        first: a row before these, as HTML.
    """
    reasons = Reasons()
    lines = [f"<tr><th>{escape(name)}</th>{''.join(map(reasons.cell, cells))}</tr>" for name, cells in rows.items()]
    head = "<th></th>" + "".join(f"<th>{escape(name)}</th>" for name in columns)
    return _table(head, [first, *lines]) + reasons.text() + _note_list(notes)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Overall metrics (rows) at each level (columns), each with its interval or the reason why it has none."""
    levels = metrics["levels"]
    counts = "".join(f"<td>{_count_text(level, report)}</td>" for level, report in levels.items())
    rows = {
        _metric_name(name, metrics): [report["metrics"][name]["overall"] for report in levels.values()]
        for name in METRIC_NAMES
        if all(name in report["metrics"] for report in levels.values())
    }
    columns = [f"per {level}" for level in levels]
    return estimate_table(columns, rows, first=f"<tr><th>evaluated</th>{counts}</tr>")


def _class_tables(metrics: Mapping[str, Any]) -> str:
    """For several classes: one table per level, one row per class."""
    if metrics["task_type"] == "binary":
        return ""
    parts = ["<h2>Each class</h2>"]
    for level, report in metrics["levels"].items():
        per_class = {name: entry["per_class"] for name, entry in report["metrics"].items() if entry["per_class"]}
        shown = [name for name in ("auc", "average_precision", "sensitivity", "specificity") if name in per_class]
        head = "<th>class</th><th>positive / negative / unknown</th>" + "".join(
            f"<th>{escape(_metric_name(name, metrics))}</th>" for name in shown
        )
        few = (
            f"too small for an interval: fewer than {metrics['bootstrap']['min_patients']} patients with or without it"
        )
        rows, reasons = [], Reasons(few)
        for label, count in report["counts"]["classes"].items():
            cells = "".join(reasons.cell(per_class[name][label]) for name in shown)
            known = f"{count['positive']} / {count['negative']} / {count['unknown']}"
            rows.append(f"<tr><th>{escape(label)}</th><td>{known}</td>{cells}</tr>")
        parts.append(f"<h3>per {escape(level)}</h3>{_table(head, rows)}{reasons.text()}")
    return "".join(parts)


def interval_note(bootstrap: Mapping[str, Any]) -> str:
    """What the numbers in brackets are, from the settings of :class:`miram.metrics.bootstrap.Bootstrap`."""
    count, share = bootstrap["n_resamples"], bootstrap["confidence"]
    return f"In brackets: {share:.0%} intervals from {count:,} bootstrap resamples of whole patients"


def _interval_note(metrics: Mapping[str, Any]) -> str:
    few = metrics["bootstrap"]["min_patients"]
    text = f"{interval_note(metrics['bootstrap'])}; a metric of fewer than {few} patients of a class has none."
    if metrics["task_type"] != "binary":
        text += " Ranking metrics are means over the classes."
    return f"<p class='reason'>{escape(text)}</p>"


def _count_text(level: str, report: Mapping[str, Any]) -> str:
    counts, patients = report["counts"], report["metrics"]["auc"]["overall"]["n_patients"]
    known = counts["units"] - counts["units_without_label"]
    text = f"{known} {escape(level)}s" + (f" of {patients} patients" if level != "patient" else "")
    if len(counts["classes"]) == 1:
        (count,) = counts["classes"].values()
        text += f"<br><span class='interval'>{count['positive']} positive, {count['negative']} negative</span>"
    if counts["units_without_label"]:
        text += f"<br><span class='interval'>{counts['units_without_label']} without a label left out</span>"
    return text


def _metric_name(name: str, metrics: Mapping[str, Any]) -> str:
    return METRIC_NAMES[name].format(specificity=metrics["settings"]["specificity"])


@dataclass
class Reasons:
    """The cells of a table, and the reasons why some have no value or no interval, each listed once below the table."""

    too_small: str = ""  # replaces all reasons of that kind, which name classes; if empty, they are listed separately
    reasons: list[str] = field(default_factory=list)

    def cell(self, estimate: Mapping[str, Any]) -> str:
        """A cell with a value and its interval, or a mark that refers to the reason why there is none."""
        value = "" if estimate["value"] is None else f"<b>{estimate['value']:.3f}</b> "
        if estimate["low"] is not None:
            return f"<td>{value}<span class='interval'>[{estimate['low']:.3f}, {estimate['high']:.3f}]</span></td>"
        reason = estimate["reason"] or "no interval"
        if self.too_small and reason.startswith("too small"):
            reason = self.too_small
        if reason not in self.reasons:
            self.reasons.append(reason)
        missing = "no interval" if value else "undefined"
        mark = self.reasons.index(reason) + 1
        return f"<td>{value}<span class='interval'>{missing}<sup>{mark}</sup></span></td>"

    def text(self) -> str:
        """The reasons, numbered."""
        marked = [f"<sup>{mark}</sup> {escape(reason)}" for mark, reason in enumerate(self.reasons, start=1)]
        return f"<p class='reason'>{'<br>'.join(marked)}</p>" if marked else ""


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    kind = " class='wide'" if picture.wide else ""
    caption = escape(picture.caption)
    return (
        f"<figure{kind}><img src='data:image/png;base64,{data}' alt='{caption}'><figcaption>{caption}</figcaption>"
        "</figure>"
    )


def _fact_table(values: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><th>{escape(name)}</th><td><code>{escape(_plain(value))}</code></td></tr>"
        for name, value in values.items()
    ]
    return f"<div class='scroll'><table><tbody>{''.join(rows)}</tbody></table></div>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return "not given" if value is None else str(value)


def _note_list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _table(head: str, rows: Sequence[str]) -> str:
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
