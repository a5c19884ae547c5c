"""Labels and patients of a folder of images: from a CSV, a pattern, DICOM headers, or the file names."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miram.data.datalist import Item
from miram.errors import InputError
from miram.files import as_text
from miram.prepare.label_table import NAMES, SPLIT_NAMES, read_table
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Record
from miram.prepare.row_images import RowImages
from miram.readers.formats import without_suffix

Label = str | list[str] | None

SEPARATOR = ";"  # between the classes of a cell that holds several


@dataclass(frozen=True)
class ImageRow:
    """
    What a table says of an image; None is unknown.

    Args:
        patient: as the table calls it.
        lesion: the same for the views of one lesion.
        split: "training", "validation" or "test".
        labels: by column, one class or a list of them.
    """

    patient: str | None = None
    lesion: str | None = None
    split: str | None = None
    labels: dict[str, Label] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """
    What a table says.

    Args:
        images: by source.
        columns: those of labels.
        missing: a report row for each row without an image.
        remarks: what was left out of the table, and why.
    """

    images: dict[str, ImageRow] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    missing: list[ReportRow] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def of(self, source: str) -> ImageRow:
        """What the table says of an image, which may be nothing."""
        return self.images.get(source, ImageRow())


def read_labels(path: str | os.PathLike[str], sources: Sequence[str]) -> Labels:
    """
    Read the CSV of labels and find each row's image.

    Args:
        path: a CSV with the column `image` (a path, or a file name that occurs once; see
            :class:`miram.prepare.row_images.RowImages`), optionally `patient`, `lesion` (images of one are views of it)
            and `split` (training, validation or test), and any other columns as labels. Only an empty cell is unknown.
            A column with `;` in a cell holds several classes a cell, in any order; `;` alone is none of them.
        sources: relative paths of the images.

    Raises:
        InputError: if the table cannot be read (:func:`miram.prepare.label_table.read_table`), names an image twice, a
            name fits several files, a split is not one, or no row names an image.
    """
    table = read_table(path)
    several = {name for name in table.columns if any(SEPARATOR in cells[name] for _, cells in table.rows)}
    by_name = RowImages(sources)
    images: dict[str, ImageRow] = {}
    missing = []
    for number, cells in table.rows:
        where = f"{path}, line {number}"
        row = _image_row(where, cells, table.columns, several)
        try:
            source = by_name.find(cells["image"])
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if source is None:
            missing.append(ReportRow(f"{Path(path).name}, line {number}", "error", f"no such image: {cells['image']}"))
        elif source in images:
            raise InputError(f"{where}: {source} is there twice; keep one row an image")
        else:
            images[source] = row
    if not images:
        names = ", ".join(repr(cells["image"]) for _, cells in table.rows[:1])
        raise InputError(
            f"{path}: none of its {len(table.rows)} rows names an image ({names}), the first image is {sources[0]!r}; "
            "give paths relative to the input folder, or file names"
        )
    return Labels(images, table.columns, missing, table.remarks)


def _image_row(where: str, cells: Mapping[str, str], columns: Sequence[str], several: set[str]) -> ImageRow:
    patient, lesion, split = (cells.get(name) or None for name in NAMES[1:])
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise InputError(f"{where}: split is {split!r}; give training, validation or test, or leave it empty")
    labels = {name: _label(cells[name], name in several) for name in columns}
    return ImageRow(patient, lesion, split and SPLIT_NAMES[split.lower()], labels)


def _label(cell: str, several: bool) -> Label:
    if not cell or not several:
        return cell or None
    return sorted({part.strip() for part in cell.split(SEPARATOR)} - {""})


@dataclass(frozen=True)
class LabelColumn:
    """
    What a column of labels holds, counted in images.

    Args:
        classes: images by class as text, numbers in their order, else alphabetically.
        labelled: images of known label.
        unknown: images without one.
        several: whether an image may have several classes.
    """

    classes: dict[str, int]
    labelled: int
    unknown: int
    several: bool = False

    @property
    def is_identifier(self) -> bool:
        """Whether most images have a value of their own: an id or a remark, not classes that can be learned."""
        own = sum(count == 1 for count in self.classes.values())
        return len(self.classes) > 2 and 2 * own > self.labelled

    @property
    def is_task(self) -> bool:
        """Whether there is something to tell apart."""
        return len(self.classes) > 1 and not self.is_identifier


def label_columns(items: Iterable[Item], columns: Sequence[str]) -> dict[str, LabelColumn]:
    """Count each column's classes; an image counts once, however many items (crops) were made of it."""
    images = {item["source"]: item for item in items}.values()
    return {column: _column([item.get(column) for item in images]) for column in columns}


def _column(labels: Sequence[Label]) -> LabelColumn:
    known = [label for label in labels if label is not None]
    counts = Counter(name for label in known for name in (label if isinstance(label, list) else [label]))
    several = any(isinstance(label, list) for label in known)
    return LabelColumn({name: counts[name] for name in _ordered(counts)}, len(known), len(labels) - len(known), several)


def assign_patients(
    records: Sequence[Record], labels: Labels, pattern: str | None
) -> tuple[dict[str, str], Counter[str]]:
    """
    Name each image's patient: by the CSV, else by `pattern`, else by the DICOM header, else one patient a file.

    A DICOM image without PatientID belongs to the patient of its study, or else the study is taken for a patient. DICOM
    patients are counted in the order of the files (`patient_0001`, ...): nothing of their ids is left.

    Args:
        records: of the images, in the order of the data list.
        labels: what the table says, for its column `patient`.
        pattern: a regular expression with one group, searched for in the relative path.

    Returns:
        source -> patient, and how many images each of the origins "csv", "pattern", "dicom", "study" and "file" named.

    Raises:
        InputError: if the pattern is not one, or an image has no match.
    """
    expression = _compile(pattern)
    numbers: dict[str, int] = {}
    of_study = {record.study: record.patient for record in records if record.study and record.patient}
    patients, origins = {}, Counter[str]()
    for record in records:
        from_csv = labels.of(record.source).patient
        if from_csv:
            patient, origin = from_csv, "csv"
        elif expression is not None:
            patient, origin = _match(expression, as_text(record.source)), "pattern"
        elif key := record.patient or of_study.get(record.study or "") or record.study:
            number = numbers.setdefault(key, len(numbers) + 1)
            patient, origin = f"patient_{number:04d}", "dicom" if record.patient else "study"
        else:
            patient, origin = without_suffix(as_text(record.source)).as_posix(), "file"
        patients[record.source] = patient
        origins[origin] += 1
    return patients, origins


def _ordered(values: Iterable[str]) -> list[str]:
    numbers = {value: as_number(value) for value in values}
    if None in numbers.values():
        return sorted(numbers)
    return sorted(numbers, key=lambda value: (numbers[value], value))


def as_number(text: str) -> float | None:
    """The finite number that a text is, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient_pattern {pattern!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise InputError(f"--patient_pattern {pattern!r} has {expression.groups} groups; put ( ) around the patient")
    return expression


def _match(expression: re.Pattern[str], source: str) -> str:
    match = expression.search(source)
    if match is None or not match[1]:
        raise InputError(f"--patient_pattern {expression.pattern!r} finds no patient in {source}; widen the pattern")
    return match[1]
