"""What lets a run continue: the settings that a prepared folder was made with, and which mammograms are done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miram.errors import InputError
from miram.files import write_text
from miram.prepare.cbis_ddsm.lesions import CropSettings, ImageCrops, ImageJob, cut_image, image_path, mask_path
from miram.prepare.prepared import refuse_links

STATE_DIR = ".prepare"
_SETTINGS = f"{STATE_DIR}/settings.json"
_TISSUE_ONLY = ("crops_per_image", "seed")
_LESION_ONLY = ("context", "mask_tolerance")


def check_settings(output_dir: Path, settings: CropSettings) -> None:
    """
    Make sure that a folder is new, or was made with the same settings, so that all its crops are alike.

    Raises:
        InputError: if it holds other files, crops of other settings, or links in place of folders.
    """
    refuse_links(output_dir)
    if not output_dir.exists() or not {path.name for path in output_dir.iterdir()} - {STATE_DIR}:
        return
    before, now = _read_settings(output_dir), _decisive(settings)
    if not before or not before.keys() <= asdict(settings).keys():
        raise InputError(
            f"{output_dir} is not empty and was not made from CBIS-DDSM; give a new folder as --output_dir"
        )
    # Other --crops have other settings of their own; only those that both have can differ.
    changed = [
        f"--{key} was {before[key]}, now {now[key]}" for key in before if before[key] != now.get(key, before[key])
    ]
    if changed:
        raise InputError(
            f"{output_dir} was made with other settings ({', '.join(changed)}); give another --output_dir or delete it"
        )


def save_settings(output_dir: Path, settings: CropSettings) -> None:
    """Keep what :func:`check_settings` compares with."""
    write_text(output_dir / _SETTINGS, json.dumps(_decisive(settings)))


def cut_or_recall(job: ImageJob, dicom_dir: Path, output_dir: Path, settings: CropSettings) -> ImageCrops:
    """
    Cut a mammogram as :func:`miram.prepare.cbis_ddsm.lesions.cut_image` does, unless an earlier run has done so whole.

    A job is known by its files' paths, sizes and times: a file that is replaced is cut again, and so is a mammogram
    with a crop missing or refused.
    """
    name = hashlib.sha256(repr(job).encode()).hexdigest()[:32]
    record = output_dir / STATE_DIR / "done" / f"{name}.json"
    crops = _recall(record, output_dir, job)
    if crops is None:
        crops = cut_image(job, dicom_dir, output_dir, settings)
        write_text(record, json.dumps(asdict(crops)))
    return crops


def _recall(record: Path, output_dir: Path, job: ImageJob) -> ImageCrops | None:
    try:
        crops = ImageCrops(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    written = [image_path(name) for name in crops.zooms] + [
        mask_path(name) for name in crops.zooms if name in job.lesions
    ]
    whole = not crops.problems and all((output_dir / path).is_file() for path in written)
    return crops if whole else None


def _read_settings(output_dir: Path) -> dict[str, Any]:
    """The settings that a folder was made with; empty where it has none."""
    try:
        return dict(json.loads((output_dir / _SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _decisive(settings: CropSettings) -> dict[str, Any]:
    """The settings that decide the pixels of the crops wanted."""
    unused = {
        "lesion": _TISSUE_ONLY,
        "tissue": _LESION_ONLY,
        "both": (),
        "whole": (*_TISSUE_ONLY, *_LESION_ONLY),
    }[settings.crops]
    return {key: value for key, value in asdict(settings).items() if key not in unused}
