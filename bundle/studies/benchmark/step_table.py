"""The benchmark as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miram.files import write_json, write_text


def write_benchmark(result: dict[str, Any], output_dir: Path) -> list[Path]:
    """Write benchmark.json and benchmark.md; returns their paths."""
    paths = [output_dir / "benchmark.json", output_dir / "benchmark.md"]
    write_json(paths[0], result)
    write_text(paths[1], _markdown(result))
    return paths


def _markdown(result: dict[str, Any]) -> str:
    settings = result["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        "# Benchmark",
        "",
        f"Machine: {result['machine']}. {versions}.",
        f"Encoder {settings['encoder']}, {settings['batch_size']} images per step, {settings['repeats']} rounds.",
        "Times are relative to the first row in the same round: median, and quartiles in brackets.",
    ]
    for precision in settings["precisions"]:
        rows = [row for row in result["steps"] if row["precision"] == precision]
        lines += ["", f"## {precision}", "", *step_table(rows)]
    lines += [f"\nLeft out in {row['precision']}: {row['name']} ({row['reason']})" for row in result["left_out"]]
    if result["growth"]:
        lines += ["", "## Growth, counted", "", *growth_table(result["growth"])]
    return "\n".join(lines) + "\n"


def step_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The timed steps; columns that only a GPU has are empty on a CPU."""
    header = ["step", "operations", "saved", "time", "s/step", "images/s", "peak MiB", "MFU"]
    return _table(
        header,
        [
            [
                row["name"],
                _count(row["flops"], 1e9, "GF", row["flops_ratio"]),
                _count(row["saved_bytes"], 2**20, "MiB", row["saved_ratio"]),
                "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["time_ratio"]),
                f"{row['seconds']:.3g}",
                f"{row['images_per_second']:.3g}",
                "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}",
                "" if row["mfu"] is None else f"{row['mfu']:.1%}",
            ]
            for row in rows
        ],
    )


def growth_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The counts."""
    return _table(
        ["image", "step", "scales", "operations", "saved"],
        [
            [
                row["image"],
                row["name"],
                row["scales"],
                _count(row["flops"], 1e9, "GF", row["flops_ratio"]),
                _count(row["saved_bytes"], 2**20, "MiB", row["saved_ratio"]),
            ]
            for row in rows
        ],
    )


def _count(value: int, unit: float, name: str, ratio: float) -> str:
    return f"{value / unit:.1f} {name}, {ratio:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
