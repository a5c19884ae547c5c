"""Where images come from, as far as a folder tells: generated ones must never pass as a patient's."""

from __future__ import annotations

from pathlib import Path

GENERATED_MARKER = "generated.json"


def is_generated(*folders: str | Path) -> bool:
    """
    Whether any of these folders was written by :mod:`miram.generated`, which leaves a marker in the folder above.

    Args:
        folders: of DICOM files or tables; a linked one is looked up at the link and where it leads.
    """
    places = [place for folder in folders for place in (Path(folder).absolute(), Path(folder).resolve())]
    return any((near / GENERATED_MARKER).is_file() for place in places for near in (place, place.parent))
