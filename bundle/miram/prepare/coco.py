"""The boxes of a COCO file as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from miram.errors import InputError
from miram.prepare.label_table import BOX, BOX_NAMES, LabelTable, check_headings

_KNOWN = {
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "images": {"id", "file_name", "width", "height", "license", "date_captured", "flickr_url", "coco_url"},
}


def read_coco(path: str | os.PathLike[str]) -> LabelTable:
    """
    Read the boxes of a COCO file: "images" with "id" and "file_name", and "annotations" with "image_id" and "bbox".

    The name of an annotation's category is its label `category`. What else an annotation or image has as text or number
    is a column, too: "patient", "lesion", "split", "laterality" and "view" as in a CSV, all others labels.

    Raises:
        InputError: if the file is not one, or an annotation names an image or category that is not in it.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            content = json.load(stream)
        images = {image["id"]: image for image in content["images"]}
        categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        rows = [(one.get("id", number), _cells(one, images, categories)) for number, one in _numbered(content)]
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
    return LabelTable(path, rows, columns, remarks + _left_out(content), "annotation")


def _numbered(content: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    return list(enumerate(content["annotations"], start=1))


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
