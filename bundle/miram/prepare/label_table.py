"""A CSV of labels or boxes as it is written: its columns checked by their headings, its cells still text."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miram.data.datalist import SPLITS
from miram.errors import InputError

SPLIT_NAMES = {name: name for name in SPLITS} | {"train": "training", "val": "validation"}
NAMES = ("image", "patient", "lesion", "split")  # columns that are not labels
BOX = ("x", "y", "width", "height")
BOX_NAMES = (*NAMES, *BOX, "laterality", "view")  # the same for a table of boxes
WRITTEN = ("mask", "source", "spacing", "hash", "crop", "zoom")

# What may stand around one of `NAMES` in a heading that means it all the same: "Patient ID", "image_path"
_AROUND = r"(?:uid|id|no|nr|num|number|name|code|key|index|identifier|anon\w*|hash|pseudonym|file|path)"
# Another word for one of them, where the table has none of its name
_OTHER_WORDS = {
    "image": r"(?:img|png|dcm|dicom|jpe?g|file|path)s?",
    "patient": r"(?:subject|participant|mrn|pid|case(?=.))s?",
    "split": r"(?:subset|partition)s?",
    "laterality": r"(?:side|breast)s?",
    "view": r"(?:viewposition|projection)s?",
}


@dataclass
class LabelTable:
    """The rows of a table of labels."""

    path: str | os.PathLike[str]  # of the file
    # the number of the line that each ends at, and its cells by column; an empty cell is ""
    rows: list[tuple[int, dict[str, str]]]
    columns: list[str]  # those of labels
    remarks: list[str]  # what was left out of the table, and why
    unit: str = "line"  # what a row is called by its number
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # by image, width and height as a COCO file says

    def row_name(self, number: int) -> str:
        """How the report names a row."""
        return f"{Path(self.path).name}, {self.unit} {number}"

    def place(self, number: int) -> str:
        """Where a row is, for an error."""
        return f"{self.path}, {self.unit} {number}"


def read_table(path: str | os.PathLike[str], names: Sequence[str] = NAMES) -> LabelTable:
    """
    Read a CSV, separated by commas, semicolons or tabs, with or without a byte order mark.

    Args:
        path: the file, in UTF-8.
        names: the columns that are not labels: `NAMES`, or `BOX_NAMES` of a table of boxes.

    Raises:
        InputError: if it cannot be read, a row has more cells than the heading, a heading occurs twice, a column that
            is needed is missing, or a heading resembles one of `names`: its column would be taken for a label.
    """
    lines = _read_lines(path)
    if not lines:
        raise InputError(f"{path} cannot be read as a CSV: it is empty")
    headings = [heading.strip() for heading in lines[0][1]]
    _check_twice(path, headings)
    remarks = _nameless(headings)
    rows = [
        (number, _cells(path, number, headings, cells)) for number, cells in lines[1:] if any(map(str.strip, cells))
    ]
    columns, more = check_headings(path, headings, rows, names)
    return LabelTable(path, rows, columns, remarks + more)


def _read_lines(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            separator = max(",;\t", key=first.count)
            reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
            return [(reader.line_num, cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as a CSV: it is not UTF-8; save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV: {getattr(error, 'strerror', None) or error}") from error


def _cells(path: str | os.PathLike[str], number: int, headings: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(headings) :]):
        raise InputError(
            f"{path}, line {number} has {len(cells)} cells, the heading {len(headings)}; put a cell that holds the "
            "separator in double quotes"
        )
    filled = [cell.strip() for cell in cells] + [""] * len(headings)
    return dict(zip(headings, filled, strict=False))


def _check_twice(path: str | os.PathLike[str], headings: Sequence[str]) -> None:
    named = [heading for heading in headings if not _is_nameless(heading)]
    twice = next((heading for heading in named if named.count(heading) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}; rename or remove one")


def _nameless(headings: Sequence[str]) -> list[str]:
    found = [f"column {number}" for number, heading in enumerate(headings, start=1) if _is_nameless(heading)]
    return [f"{', '.join(found)} of the table without a heading: left out"] if found else []


def _is_nameless(heading: str) -> bool:
    """Whether a column has no heading, or the one that pandas gives to those without."""
    return re.fullmatch(r"(?:Unnamed: \d+(?:_level_\d+)?)?", heading) is not None


def check_headings(
    path: str | os.PathLike[str],
    headings: Sequence[str],
    rows: Sequence[tuple[int, dict[str, str]]],
    names: Sequence[str],
) -> tuple[list[str], list[str]]:
    """
    Find the columns of labels.

    Returns:
        their headings, and a remark on each column that is left out since it only repeats one of `names`.

    Raises:
        InputError: see :func:`read_table`.
    """
    kept, remarks = [], []
    for column in (name for name in headings if name not in names and not _is_nameless(name)):
        if column in WRITTEN:
            raise InputError(f"{path}: the column {column!r} is written by the prepare step itself; rename it")
        meant = _nearly(column, names)
        if meant in headings:
            remarks.append(f"column {column} of the table beside {meant}: not a label, left out")
            continue
        meant = meant or _in_other_words(column, (cells[column] for _, cells in rows), headings, names)
        if meant is not None:
            raise InputError(
                f"{path}: the column {column} would be taken for a label; rename it to {meant} if it tells the "
                f"{meant}, else give it another name or remove it (names are spelled as {', '.join(names)})"
            )
        kept.append(column)
    _check_needed(path, headings, names)
    return kept, remarks


def _check_needed(path: str | os.PathLike[str], headings: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in ("image", *BOX) if name in names and name not in headings]
    if missing:
        corners = "; of a box's corners, width is xmax - xmin and height ymax - ymin"
        needed = f"; a table of boxes has image, {', '.join(BOX)}{corners}" if BOX[0] in names else ""
        raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(headings)}{needed}")


def _nearly(heading: str, names: Sequence[str]) -> str | None:
    """Which of `names` a heading resembles: in capitals, with spaces, or followed by "id"."""
    return next((name for name in names if re.fullmatch(rf"{_AROUND}*{name}s?{_AROUND}*", _plain(heading))), None)


def _in_other_words(heading: str, values: Iterable[str], headings: Sequence[str], names: Sequence[str]) -> str | None:
    """Which of `names` that the table lacks a column tells, by its heading or, a split, by its cells."""
    for name, words in (_OTHER_WORDS).items():
        if name in names and name not in headings and re.fullmatch(rf"{words}{_AROUND}*", _plain(heading)):
            return name
    given = {value.casefold() for value in values} - {""}
    return "split" if "split" not in headings and given and given <= SPLIT_NAMES.keys() else None


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z0-9]", "", heading.casefold())


def as_number(text: str) -> float | None:
    """The finite number that a text is, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
