"""The four tables as TCIA publishes them: column names, order, line endings and stray newlines."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from miram.files import write_text
from miram.generated.films import Row, Series, table_name
from miram.generated.patients import Kind


def write_tables(csv_dir: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """
    Write the mass and calcification tables of training and test.

    Args:
        csv_dir: the folder to write to.
        rows: every row of the data set.
    """
    for kind, split in product(("mass", "calc"), ("train", "test")):
        chosen = [row for row in rows if (row.finding.kind, row.finding.split) == (kind, split)]
        text = io.StringIO()
        writer = csv.DictWriter(text, _columns(kind), lineterminator="\r\n")  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(table_record(row) for row in chosen)
        write_text(Path(csv_dir) / table_name(kind, split), text.getvalue())  # type: ignore[arg-type]


def table_record(row: Row) -> dict[str, str | int]:
    """One row by column name; mask paths of masses and crop paths of calcifications end with a newline."""
    mass = row.finding.kind == "mass"
    values = (
        row.patient,
        row.density,
        row.side,
        row.view,
        row.finding.number,
        "mass" if mass else "calcification",
        "-".join(row.shape),
        "-".join(row.margin),
        row.finding.assessment,
        row.finding.pathology,
        row.subtlety,
        _path(row.image, "000000.dcm"),
        _path(row.crop, row.crop_name) + ("" if mass else "\n"),
        _path(row.mask, row.mask_name) + ("\n" if mass else ""),
    )
    return dict(zip(_columns(row.finding.kind), values, strict=True))


def _columns(kind: Kind) -> list[str]:
    mass = kind == "mass"
    return [
        "patient_id",
        "breast_density" if mass else "breast density",
        "left or right breast",
        "image view",
        "abnormality id",
        "abnormality type",
        "mass shape" if mass else "calc type",
        "mass margins" if mass else "calc distribution",
        "assessment",
        "pathology",
        "subtlety",
        "image file path",
        "cropped image file path",
        "ROI mask file path",
    ]


def _path(series: Series, name: str) -> str:
    return f"{series.folder}/{series.study}/{series.series}/{name}"
