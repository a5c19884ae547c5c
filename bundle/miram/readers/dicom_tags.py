"""Reading the elements of a DICOM header: devices may leave optional ones empty, or misspell them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import isfinite, nan

from pydicom.dataset import Dataset

from miram.errors import InputError

# Elements that enhanced objects store in functional groups; other objects store them at the top level.
GROUPED = (
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "PixelSpacing", "ImagerPixelSpacing", "FrameLaterality", "ImageLaterality", "Laterality"),
    *("ViewPosition", "ViewCodeSequence"),
)
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def texts(header: Dataset, name: str) -> list[str]:
    """An element's values as text without surrounding spaces; an empty list if it is absent or empty."""
    try:
        value = header.get(name)
    except Exception:  # pydicom converts at the first access, and fails for what is not a number or a date
        value = header.get_item(name).value
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    several = isinstance(value, Sequence) and not isinstance(value, str)
    found = [] if value is None else [str(item).strip(" \0\r\n\t") for item in (value if several else [value])]
    return found if any(found) else []


def text(header: Dataset, name: str) -> str:
    """An element's first value in capitals; "" if there is none."""
    return next(iter(texts(header, name)), "").upper()


def numbers(header: Dataset, name: str) -> list[float]:
    """An element's values, also with a decimal comma; NaN for a value that is not a number."""
    return [_number(value) for value in texts(header, name)]


def items(header: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence; an empty list if it is absent, empty or damaged."""
    try:
        return [item for item in header.get(name) or [] if isinstance(item, Dataset) and len(item)]
    except Exception:  # sequences are parsed at the first access
        return []


def adopt_groups(header: Dataset) -> None:
    """Copy elements from an enhanced object's functional groups (of its frame, or shared) to the top level."""
    for group in (item for name in GROUPS for item in items(header, name)[:1]):
        for macro in _macros(group):
            for name in GROUPED:
                if not _says(header, name) and _says(macro, name):
                    header[name] = macro.get_item(name)


def complete(path: str | os.PathLike[str], header: Dataset) -> None:
    """
    Fill in missing or empty elements that describe the pixels, if they follow from the others.

    Raises:
        InputError: if they do not.
    """
    header.PhotometricInterpretation = text(header, "PhotometricInterpretation")
    for name in ("PhotometricInterpretation", "BitsAllocated"):
        if not texts(header, name):
            raise InputError(f"{path} lacks {name}, without which its pixels cannot be read; export it again")
    defaults = {"SamplesPerPixel": 1, "PixelRepresentation": 0, "NumberOfFrames": 1, "BitsStored": header.BitsAllocated}
    for name, default in defaults.items():
        given = numbers(header, name)[:1]
        setattr(header, name, int(given[0]) if given and isfinite(given[0]) else default)
    header.NumberOfFrames = max(header.NumberOfFrames, 1)
    if not texts(header, "HighBit"):
        header.HighBit = header.BitsStored - 1


def _number(value: str) -> float:
    try:
        number = float(value.replace(",", "."))
    except ValueError:
        return nan
    return number if isfinite(number) else nan


def _says(header: Dataset, name: str) -> bool:
    return bool(items(header, name) if name.endswith("Sequence") else texts(header, name))


def _macros(group: Dataset) -> Iterator[Dataset]:
    """A functional group and all data sets nested in it."""
    yield group
    for element in group:
        for item in element.value if element.VR == "SQ" else ():
            yield from _macros(item)
