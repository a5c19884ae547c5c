"""Labels and patients of a folder of images: from a CSV, a pattern, DICOM headers, or the file names."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas

from miram.data.datalist import SPLITS, Item
from miram.errors import InputError
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Record
from miram.readers.formats import without_suffix

Labels = dict[str, str | None]

RESERVED = {"mask", "source", "spacing", "hash"}
NAMES = {"image", "patient", "lesion", "split"}  # columns that are no labels
SPLIT_NAMES = {name: name for name in SPLITS} | {"train": "training", "val": "validation"}


def read_labels(
    path: str | os.PathLike[str], sources: Sequence[str]
) -> tuple[dict[str, Labels], list[str], list[ReportRow]]:
    """
    Read the CSV of labels and find each row's image.

    Args:
        path: a CSV with the column `image` (a relative path, or a file name that occurs once), optionally `patient`,
            `lesion` (images of one are views of it) and `split` (training, validation or test), and any other columns
            as labels; an empty cell is unknown.
        sources: relative paths of the images.

    Returns:
        source -> column -> value; the label columns; a report row for each table row without an image.

    Raises:
        InputError: if the table cannot be read, lacks `image`, names an image twice, a name fits several files, or a
            split is none.
    """
    try:
        table = pandas.read_csv(path, dtype=str, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a CSV: {error}") from error
    if "image" not in table.columns:
        raise InputError(f"{path} has no column 'image'; it has {', '.join(map(str, table.columns))}")
    reserved = RESERVED & set(table.columns)
    if reserved:
        raise InputError(f"{path}: the column {min(reserved)!r} is written by the prepare step itself; rename it")
    columns = [str(name) for name in table.columns if name not in NAMES]
    by_name = _by_name(sources)
    labels: dict[str, Labels] = {}
    missing = []
    for number, row in enumerate(table.to_dict("records"), start=2):
        cells = {str(name): None if pandas.isna(value) else str(value).strip() or None for name, value in row.items()}
        cells |= _split(path, number, cells.get("split"))
        source = _find(path, number, cells.pop("image"), by_name)
        if source is None:
            missing.append(ReportRow(f"{Path(path).name}, line {number}", "error", f"no such image: {row['image']}"))
        elif source in labels:
            raise InputError(f"{path}, line {number}: {source} is there twice; keep one row an image")
        else:
            labels[source] = cells
    return labels, columns, missing


def label_names(items: Iterable[Item], columns: Sequence[str]) -> dict[str, list[str]]:
    """The classes of each label column as text: numbers in their order, else alphabetically."""
    classes: dict[str, set[str]] = {column: set() for column in columns}
    for item in items:
        for column in columns:
            if item.get(column) is not None:
                classes[column].add(item[column])
    return {column: _ordered(values) for column, values in classes.items()}


def assign_patients(
    records: Sequence[Record], labels: dict[str, Labels], pattern: str | None
) -> tuple[dict[str, str], Counter[str]]:
    """
    Name each image's patient: by the CSV, else by `pattern`, else by the DICOM header, else one patient a file.

    DICOM patients are counted in the order of the files (`patient_0001`, ...): nothing of their ids is left.

    Args:
        records: of the images, in the order of the data list.
        labels: source -> column -> value, for the column "patient".
        pattern: a regular expression with one group, searched for in the relative path.

    Returns:
        source -> patient, and how many images each of the origins "csv", "pattern", "dicom" and "file" named.

    Raises:
        InputError: if the pattern is none, or an image has no match.
    """
    expression = _compile(pattern)
    numbers: dict[str, int] = {}
    patients, origins = {}, Counter[str]()
    for record in records:
        from_csv = labels.get(record.source, {}).get("patient")
        if from_csv:
            patient, origin = from_csv, "csv"
        elif expression is not None:
            patient, origin = _match(expression, record.source), "pattern"
        elif record.patient is not None:
            number = numbers.setdefault(record.patient, len(numbers) + 1)
            patient, origin = f"patient_{number:04d}", "dicom"
        else:
            patient, origin = without_suffix(record.source).as_posix(), "file"
        patients[record.source] = patient
        origins[origin] += 1
    return patients, origins


def _by_name(sources: Sequence[str]) -> dict[str, list[str]]:
    """Each relative path, and each file name, with the sources that it may mean."""
    names: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        names[PurePosixPath(source).name].append(source)
    # A whole path means itself, also where it is another file's name.
    return dict(names) | {source: [source] for source in sources}


def _find(path: str | os.PathLike[str], number: int, name: str | None, by_name: dict[str, list[str]]) -> str | None:
    found = by_name.get((name or "").replace("\\", "/").removeprefix("./"), [])
    if len(found) > 1:
        raise InputError(
            f"{path}, line {number}: {name!r} may be {found[0]} or {found[1]}; "
            "give the path relative to the input folder"
        )
    return found[0] if found else None


def _split(path: str | os.PathLike[str], number: int, name: str | None) -> Labels:
    """The cell of the column `split` in the data list's words, where there is one."""
    if not name:
        return {}
    if name.lower() not in SPLIT_NAMES:
        raise InputError(
            f"{path}, line {number}: split is {name!r}; give training, validation or test, or leave it empty"
        )
    return {"split": SPLIT_NAMES[name.lower()]}


def _ordered(values: set[str]) -> list[str]:
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient_pattern {pattern!r} is no regular expression: {error}") from error
    if expression.groups != 1:
        raise InputError(f"--patient_pattern {pattern!r} has {expression.groups} groups; put ( ) around the patient")
    return expression


def _match(expression: re.Pattern[str], source: str) -> str:
    match = expression.search(source)
    if match is None or not match[1]:
        raise InputError(f"--patient_pattern {expression.pattern!r} finds no patient in {source}; widen the pattern")
    return match[1]
