"""A CSV of labels as it is written: its columns checked by their headings, its cells still text."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from miram.data.datalist import SPLITS
from miram.errors import InputError

SPLIT_NAMES = {name: name for name in SPLITS} | {"train": "training", "val": "validation"}
NAMES = ("image", "patient", "lesion", "split")  # columns that are not labels
WRITTEN = ("mask", "source", "spacing", "hash")

# What may stand around one of `NAMES` in a heading that means it all the same: "Patient ID", "image_path"
_AROUND = r"(?:uid|id|no|nr|num|number|name|code|key|index|identifier|anon\w*|hash|pseudonym|file|path)"
# Another word for one of them, where the table has none of its name
_OTHER_WORDS = {
    "image": r"(?:img|png|dcm|dicom|jpe?g|file|path)s?",
    "patient": r"(?:subject|participant|mrn|pid|case(?=.))s?",
    "split": r"(?:subset|partition)s?",
}


@dataclass
class LabelTable:
    """
    The rows of a table of labels.

    Args:
        rows: the number of the line that each ends at, and its cells by column; an empty cell is "".
        columns: those of labels.
        remarks: what was left out of the table, and why.
    """

    rows: list[tuple[int, dict[str, str]]]
    columns: list[str]
    remarks: list[str]


def read_table(path: str | os.PathLike[str]) -> LabelTable:
    """
    Read a CSV, separated by commas, semicolons or tabs, with or without a byte order mark.

    Args:
        path: the file, in UTF-8.

    Raises:
        InputError: if it cannot be read, a row has more cells than the heading, a heading is there twice, `image` is
            missing, or a heading nearly is one of `NAMES`: its column would be taken for a label.
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
    columns = [name for name in headings if name not in NAMES and not _is_nameless(name)]
    columns, more = _check_headings(path, headings, columns, rows)
    return LabelTable(rows, columns, remarks + more)


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


def _check_headings(
    path: str | os.PathLike[str],
    headings: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[int, dict[str, str]]],
) -> tuple[list[str], list[str]]:
    """The label columns without those that only repeat one of `NAMES`, and a remark on each of these."""
    kept, remarks = [], []
    for column in columns:
        if column in WRITTEN:
            raise InputError(f"{path}: the column {column!r} is written by the prepare step itself; rename it")
        meant = _nearly(column)
        if meant in headings:
            remarks.append(f"column {column} of the table beside {meant}: not a label, left out")
            continue
        meant = meant or _in_other_words(column, (cells[column] for _, cells in rows), headings)
        if meant is not None:
            raise InputError(
                f"{path}: the column {column} would be taken for a label; rename it to {meant} if it tells the "
                f"{meant}, else give it another name or remove it (names are spelled as {', '.join(NAMES)})"
            )
        kept.append(column)
    if "image" not in headings:
        raise InputError(f"{path} has no column 'image'; it has {', '.join(headings)}")
    return kept, remarks


def _nearly(heading: str) -> str | None:
    """Which of `NAMES` a heading nearly is: in capitals, with spaces, or with "id" behind it."""
    return next((name for name in NAMES if re.fullmatch(rf"{_AROUND}*{name}s?{_AROUND}*", _plain(heading))), None)


def _in_other_words(heading: str, values: Iterable[str], headings: Sequence[str]) -> str | None:
    """Which of `NAMES` that the table lacks a column tells, by its heading or, a split, by its cells."""
    for name, words in _OTHER_WORDS.items():
        if name not in headings and re.fullmatch(rf"{words}{_AROUND}*", _plain(heading)):
            return name
    given = {value.casefold() for value in values} - {""}
    return "split" if "split" not in headings and given and given <= SPLIT_NAMES.keys() else None


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z0-9]", "", heading.casefold())
