"""Labels of a folder of images, from a table."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from miram.data.datalist import Item
from miram.errors import InputError
from miram.prepare.label_table import SPLIT_NAMES, LabelTable, read_table
from miram.prepare.prepared import ReportRow
from miram.prepare.regions import Box
from miram.prepare.row_images import RowImages

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
class LesionRow:
    """
    What a row of a table of boxes says; None is unknown.

    Args:
        name: of the row, as the report names it.
        row: what a table of labels says, too.
        box: where the lesion is; None: the row says that the image shows no lesion.
        laterality: "LEFT" or "RIGHT".
        view: "CC", "MLO" or another.
    """

    name: str
    row: ImageRow
    box: Box | None
    laterality: str | None = None
    view: str | None = None


@dataclass(frozen=True)
class Labels:
    """
    What a table says.

    Args:
        images: by source.
        columns: those of labels.
        missing: a report row for each row without an image.
        repeated: likewise for each row that says the same as another one.
        remarks: what was left out of the table, and why.
        lesions: of a table of boxes: those of each source.
    """

    images: dict[str, ImageRow] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    missing: list[ReportRow] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lesions: dict[str, list[LesionRow]] = field(default_factory=dict)
    repeated: list[ReportRow] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        named = sum(map(len, self.lesions.values())) if self.lesions else len(self.images)
        return named + len(self.missing) + len(self.repeated)

    def regions(self) -> dict[str, list[Box]]:
        """The boxes of each source."""
        return {source: [row.box for row in rows if row.box] for source, rows in self.lesions.items()}

    def of(self, source: str) -> ImageRow:
        """What the table says of an image, which may be nothing."""
        return self.images.get(source, ImageRow())


def read_labels(path: str | os.PathLike[str], sources: Sequence[str], separator: str = SEPARATOR) -> Labels:
    """
    Read the CSV of labels and find each row's image.

    Args:
        path: a CSV with the column `image` (a path, or a file name that occurs once; see
            :class:`miram.prepare.row_images.RowImages`), optionally `patient`, `lesion` (images of one are views of it)
            and `split` (training, validation or test), and any other columns as labels. Only an empty cell is unknown.
            A column with `;` in a cell holds several classes a cell, in any order; `;` alone is none of them.
        sources: relative paths of the images.
        separator: in place of `;`.

    Raises:
        InputError: if the table cannot be read (:func:`miram.prepare.label_table.read_table`), names an image twice, a
            name fits several files, a split is not one, or no row names an image.
    """
    table = read_table(path)
    found, missing = match_rows(table, sources)
    read = row_reader(table, separator)
    images: dict[str, ImageRow] = {}
    for number, source, cells in found:
        if source in images:
            raise InputError(f"{table.place(number)}: {source} is there twice; keep one row an image")
        images[source] = read(number, cells)
    return Labels(images, table.columns, missing, table.remarks)


def match_rows(
    table: LabelTable, sources: Sequence[str]
) -> tuple[list[tuple[int, str, dict[str, str]]], list[ReportRow]]:
    """
    Find each row's image.

    Args:
        table: of labels or boxes.
        sources: relative paths of the images.

    Returns:
        the number, the image and the cells of each row that has an image, and a report row for each other one.

    Raises:
        InputError: if a name fits several files, or no row names an image.
    """
    by_name = RowImages(sources)
    found, missing = [], []
    for number, cells in table.rows:
        try:
            source = by_name.find(cells["image"])
        except InputError as error:
            raise InputError(f"{table.place(number)}: {error}") from error
        if source is None:
            missing.append(ReportRow(table.row_name(number), "error", f"no such image: {cells['image']}"))
        else:
            found.append((number, source, cells))
    if not found:
        names = ", ".join(repr(cells["image"]) for _, cells in table.rows[:1])
        raise InputError(
            f"{table.path}: none of its {len(table.rows)} rows names an image ({names}), the first image is "
            f"{sources[0]!r}; give paths relative to the input folder, or file names"
        )
    return found, missing


def row_reader(table: LabelTable, separator: str = SEPARATOR) -> Callable[[int, Mapping[str, str]], ImageRow]:
    """
    A function that reads a row of a table from its number and its cells.

    Args:
        table: all of it: one cell with several classes makes its column one of several classes.
        separator: between the classes of a cell.
    """
    if not separator.strip():
        raise InputError("the separator between classes is empty; give a sign, such as ;")
    several = {name for name in table.columns if any(separator in cells[name] for _, cells in table.rows)}

    def read(number: int, cells: Mapping[str, str]) -> ImageRow:
        patient, lesion, split = (cells.get(name) or None for name in ("patient", "lesion", "split"))
        if split is not None and split.lower() not in SPLIT_NAMES:
            raise InputError(
                f"{table.place(number)}: split is {split!r}; give training, validation or test, or leave it empty"
            )
        labels = {name: _label(cells[name], separator if name in several else None) for name in table.columns}
        return ImageRow(patient, lesion, split and SPLIT_NAMES[split.lower()], labels)

    return read


def _label(cell: str, separator: str | None) -> Label:
    if not cell or separator is None:
        return cell or None
    return sorted({part.strip() for part in cell.split(separator)} - {""})


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


def label_columns(items: Iterable[Item], columns: Sequence[str], unit: str = "source") -> dict[str, LabelColumn]:
    """
    Count each column's classes.

    Args:
        items: of the data list.
        columns: of the table of labels.
        unit: the key of what counts once: an image, however many items (crops) were made of it.
    """
    units = {item[unit]: item for item in items}.values()
    return {column: _column([item.get(column) for item in units]) for column in columns}


def _column(labels: Sequence[Label]) -> LabelColumn:
    known = [label for label in labels if label is not None]
    counts = Counter(name for label in known for name in (label if isinstance(label, list) else [label]))
    several = any(isinstance(label, list) for label in known)
    return LabelColumn({name: counts[name] for name in _ordered(counts)}, len(known), len(labels) - len(known), several)


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
