"""The check as JSON and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from miram.files import write_json, write_text


def write_report(result: dict[str, Any], output_dir: Path) -> None:
    """Write `gpu_check.json` and `gpu_check.md`."""
    write_json(output_dir / "gpu_check.json", result)
    write_text(output_dir / "gpu_check.md", markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """A table for each part, with the columns that its rows have."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = ["# GPU check", "", f"Machine: {result['machine']}. {versions}.", "", f"Settings: {result['settings']}"]
    for name, part in result["parts"].items():
        lines += ["", f"## {name}", ""]
        if part["reason"] is not None:
            lines += [f"Ended early: {part['reason']}", ""]
        lines += table(part["rows"])
    return "\n".join(lines) + "\n"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as a Markdown table; a cell without a value is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return []
    cells = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
