"""Labels of a folder of images, from a table, and the image that each of its rows means."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from miram.errors import InputError
from miram.files import as_text
from miram.prepare.label_table import SPLIT_NAMES, LabelTable, read_table
from miram.prepare.prepared import ReportRow
from miram.prepare.regions import Box
from miram.readers.formats import without_suffix

Label = str | list[str] | None

SEPARATOR = ";"  # between the classes of a cell that holds several


@dataclass(frozen=True)
class ImageRow:
    """What a table says of an image; None is unknown."""

    patient: str | None = None  # as the table calls it
    lesion: str | None = None  # the same for the views of one lesion
    split: str | None = None  # "training", "validation" or "test"
    labels: dict[str, Label] = field(default_factory=dict)  # by column, one class or a list of them


@dataclass(frozen=True, kw_only=True)
class LesionRow(ImageRow):
    """What a row of a table of boxes says; None is unknown."""

    name: str  # of the row, as the report names it
    box: Box | None  # where the lesion is; None: the row says that the image shows no lesion
    laterality: str | None = None  # "LEFT" or "RIGHT"
    view: str | None = None  # "CC", "MLO" or another


@dataclass(frozen=True)
class Labels:
    """What a table says."""

    images: dict[str, ImageRow] = field(default_factory=dict)  # by source
    columns: list[str] = field(default_factory=list)  # those of labels
    missing: list[ReportRow] = field(default_factory=list)  # a report row for each row without an image
    remarks: list[str] = field(default_factory=list)  # what was left out of the table, and why
    lesions: dict[str, list[LesionRow]] = field(default_factory=dict)  # of a table of boxes: those of each source
    repeated: list[ReportRow] = field(default_factory=list)  # a report row for each row that repeats another

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
            :class:`miram.prepare.labels.RowImages`), optionally `patient`, `lesion` (images of one are views of it)
            and `split` (training, validation or test), and any other columns as labels. Only an empty cell is unknown.
            A column with `;` in a cell holds several classes per cell, in any order; `;` alone is none of them.
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
            raise InputError(f"{table.place(number)}: {source} occurs twice; keep one row per image")
        images[source] = read(number, cells)
    return Labels(images, table.columns, missing, table.remarks)


def match_rows(
    table: LabelTable, sources: Sequence[str]
) -> tuple[list[tuple[int, str, dict[str, str]]], list[ReportRow]]:
    """
    Find each row's image.

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
    """A function that reads a row of a table from its number and its cells."""
    if not separator.strip():
        raise InputError("the separator between classes is empty; give a character, such as ;")
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


def _folded(name: str) -> str:
    """Without the differences of capitals, and of letters with accents that systems write in two ways."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_suffix(name: str) -> str:
    return _folded(without_suffix(name).as_posix()) if name else ""


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _folded, _without_suffix)


class RowImages:
    """
    The images of a folder, to be found by the names in a table.

    A name is a path or its end, of this machine or of another: one of the two paths ends in the other. It is taken in
    its own spelling first, then whatever the capitals are, then without the suffix.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = {as_text(source): source for source in sources}  # as outputs show them
        self.by_name: list[dict[str, list[str]]] = []
        for spelled in _SPELLINGS:
            names = defaultdict(list)
            for source in sources:
                names[PurePosixPath(spelled(source)).name].append(source)
            self.by_name.append(dict(names))

    def find(self, name: str) -> str | None:
        """
        The image that a name means; None if there is none.

        Raises:
            InputError: if it may be one of several.
        """
        wanted = name.replace("\\", "/").removeprefix("./")
        for whole in (name, wanted):
            if whole in self.sources:
                return self.sources[whole]  # a whole path means that file, even if another file has the same name
        for spelled, names in zip(_SPELLINGS, self.by_name, strict=True):
            parts = _parts(spelled(wanted))
            shared = {source: _shared(parts, _parts(spelled(source))) for source in names.get("".join(parts[-1:]), [])}
            found = [source for source, length in shared.items() if length == max(shared.values()) > 0]
            if len(found) > 1:
                raise InputError(
                    f"{name!r} may be {found[0]} or {found[1]}; give the path relative to the input folder"
                )
            if found:
                return found[0]
        return None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of parts of the shorter path, if the longer ends in it; else 0."""
    length = min(len(one), len(other))
    return length if one[-length:] == other[-length:] else 0
