"""A table of boxes, any number per image: from a CSV, or a COCO file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miram.errors import InputError
from miram.prepare.label_table import BOX, BOX_NAMES, LabelTable, check_headings, read_table
from miram.prepare.labels import SEPARATOR, ImageRow, Labels, LesionRow, match_rows, row_reader
from miram.prepare.prepared import ReportRow
from miram.prepare.regions import Box

# Keys of a COCO file that are not labels
_KNOWN = {
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "images": {"id", "file_name", "width", "height", "license", "date_captured", "flickr_url", "coco_url"},
}
_SIDES = {"l": "LEFT", "left": "LEFT", "r": "RIGHT", "right": "RIGHT"}


def read_boxes(path: str | os.PathLike[str], sources: Sequence[str], separator: str = SEPARATOR) -> Labels:
    """
    Read a table of boxes and find each row's image.

    Args:
        path: a CSV with the columns `image`, `x`, `y`, `width` and `height` (:class:`miram.prepare.regions.Box`),
            optionally `patient`, `lesion`, `split`, `laterality` and `view`; all else is as
            :func:`miram.prepare.labels.read_labels` says, but an image may have several rows. A row whose four cells of
            the box are empty says that the image shows no lesion. A name that ends in `.json` is a COCO file
            (:func:`miram.prepare.boxes.read_coco`).
        sources: relative paths of the images.
        separator: between the classes of a cell.

    Raises:
        InputError: as for a table of labels, or if rows of one image disagree in patient or split, or the boxes are
            not in pixels.
    """
    table = read_coco(path) if Path(path).suffix.lower() == ".json" else read_table(path, BOX_NAMES)
    found, missing = match_rows(table, sources)
    read = row_reader(table, separator)
    lesions: dict[str, list[LesionRow]] = {}
    kept, repeated = _without_repeats(table, found)
    for number, source, cells in kept:
        lesions.setdefault(source, []).append(_lesion_row(table, number, cells, read(number, cells)))
    _check_pixels(table, [row.box for rows in lesions.values() for row in rows if row.box])
    images = {source: _image_row(table, source, rows) for source, rows in lesions.items()}
    return Labels(images, table.columns, missing, [*table.remarks, *_remarks(lesions)], lesions, repeated)


def _without_repeats(
    table: LabelTable, rows: Sequence[tuple[int, str, dict[str, str]]]
) -> tuple[list[tuple[int, str, dict[str, str]]], list[ReportRow]]:
    """The rows that say something new, and a report row for each one that repeats another in every cell."""
    first: dict[tuple[str, ...], int] = {}
    kept, repeated = [], []
    for number, source, cells in rows:
        same = first.setdefault((source, *(value for name, value in cells.items() if name != "image")), number)
        if same == number:
            kept.append((number, source, cells))
        else:
            repeated.append(ReportRow(table.row_name(number), "skipped", f"repeats {table.unit} {same}"))
    return kept, repeated


def _lesion_row(table: LabelTable, number: int, cells: Mapping[str, str], row: ImageRow) -> LesionRow:
    box = Box((cells["x"], cells["y"], cells["width"], cells["height"]), table.sizes.get(cells["image"]))
    return LesionRow(
        **vars(row),
        name=table.row_name(number),
        box=box if any(box.cells) else None,
        laterality=_laterality(table, number, cells),
        view=cells.get("view", "").upper() or None,
    )


def _laterality(table: LabelTable, number: int, cells: Mapping[str, str]) -> str | None:
    cell = cells.get("laterality", "")
    if cell and cell.lower() not in _SIDES:
        raise InputError(f"{table.place(number)}: laterality is {cell!r}; give LEFT or RIGHT, or leave it empty")
    return _SIDES.get(cell.lower())


def _check_pixels(table: LabelTable, boxes: Sequence[Box]) -> None:
    """Refuse a table whose boxes are given as shares of the image."""
    numbers = [box.numbers for box in boxes]
    if numbers and all(0 <= value <= 1 for values in numbers for value in values):
        raise InputError(
            f"{table.path}: {', '.join(BOX)} of all boxes are between 0 and 1, as shares of the image are; multiply "
            "them by its width and height: they are pixels of the file"
        )


def _image_row(table: LabelTable, source: str, rows: Sequence[ImageRow]) -> ImageRow:
    """What the rows of one image say of it."""
    said: dict[str, str | None] = {}
    for name in ("patient", "split"):
        values = sorted({value for row in rows if (value := getattr(row, name)) is not None})
        if len(values) > 1:
            raise InputError(f"{table.path}: rows of {source} have {name} {values[0]!r} and {values[1]!r}; give one")
        said[name] = values[0] if values else None
    return ImageRow(said["patient"], None, said["split"])


def _remarks(lesions: Mapping[str, Sequence[LesionRow]]) -> list[str]:
    unnamed = sum(row.box is not None and row.lesion is None for rows in lesions.values() for row in rows)
    text = f"{unnamed} boxes have no name in a column lesion: each counts as a lesion of its own, also in two views"
    return [text] if unnamed else []


def read_coco(path: str | os.PathLike[str]) -> LabelTable:
    """
    Read the boxes of a COCO file: "images" with "id" and "file_name", and "annotations" with "image_id" and "bbox".

    The name of an annotation's category is its label `category`. What else an annotation or image has as text or number
    is a column, too: "patient", "lesion", "split", "laterality" and "view" as in a CSV, all others labels. The boxes of
    an image whose "width" and "height" are not those of its file are refused (:class:`miram.prepare.regions.Box`).

    Raises:
        InputError: if the file is not a COCO file, or an annotation names an image or category that it lacks.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            content = json.load(stream)
        images = {image["id"]: image for image in content["images"]}
        categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        rows = [
            (one.get("id", number), _cells(one, images, categories))
            for number, one in enumerate(content["annotations"], 1)
        ]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {getattr(error, 'strerror', None) or error}") from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is not a COCO file of boxes ({type(error).__name__}: {error}); it needs images (id, file_name) "
            "and annotations (image_id of one of them, bbox of [x, y, width, height], category_id of a category)"
        ) from error
    headings = list(dict.fromkeys(["image", *BOX, *(name for _, cells in rows for name in cells)]))
    rows = [(number, dict.fromkeys(headings, "") | cells) for number, cells in rows]
    columns, remarks = check_headings(path, headings, rows, BOX_NAMES)
    return LabelTable(path, rows, columns, remarks + _left_out(content), "annotation", _sizes(content["images"]))


def _cells(
    annotation: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]], categories: Mapping[Any, str]
) -> dict[str, str]:
    """An annotation as the cells of a row."""
    image, box = images[annotation["image_id"]], annotation.get("bbox") or ["nan"] * len(BOX)
    cells = {"image": str(image["file_name"])} | {name: _text(box[axis]) for axis, name in enumerate(BOX)}
    if "category_id" in annotation:
        cells["category"] = categories[annotation["category_id"]]
    for kind, one in (("images", image), ("annotations", annotation)):
        cells |= {name: _text(value) for name, value in one.items() if name not in _KNOWN[kind] and _is_cell(value)}
    return cells


def _sizes(images: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """By file name, width and height of the images that have both; 0 means unknown."""
    found = {}
    for image in images:
        width, height = image.get("width"), image.get("height")
        if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
            found[str(image["file_name"])] = (width, height)
    return found


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _left_out(content: Mapping[str, Any]) -> list[str]:
    """A remark on what annotations and images have beside text and numbers."""
    names = {
        name
        for kind, known in _KNOWN.items()
        for one in content[kind]
        for name, value in one.items()
        if name not in known and not _is_cell(value)
    }
    return [f"{name} of the COCO file is neither text nor a number: left out" for name in sorted(names)]
