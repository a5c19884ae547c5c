"""One image of a folder to its crops."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miram.data.perceptual_hash import perceptual_hash
from miram.errors import InputError
from miram.prepare.prepared import write_png16, write_volume
from miram.prepare.records import Record, Records, hash_patient, source_digest
from miram.readers.formats import read_image, without_suffix
from miram.readers.header_notices import NOTICES, notices
from miram.readers.image import Image, check_intensity
from miram.transforms.crops import breast_mask, crop_at, resize_crop, tissue_centers

CROPS = ("tissue", "whole")


@dataclass(frozen=True)
class CropSettings:
    """
    What decides the crops.

    Args:
        crops: "tissue" (random windows of tissue, in original pixels) or "whole" (the image, resized and padded).
        crop_size: pixels along each axis; None is 512 for images, 96 for volumes.
        crops_per_image: windows per image that is larger than a crop ("tissue").
        min_tissue: share of a window that is tissue ("tissue").
        spatial_dims: 2 or 3 keeps images or volumes only; None takes what comes.
        intensity: see :func:`miram.readers.formats.read_image`.
        max_pixels: larger images are refused.
        leave_out: images whose headers have one of these :data:`miram.readers.header_notices.NOTICES` are skipped.
        seed: of the windows.
    """

    crops: str = "tissue"
    crop_size: int | None = None
    crops_per_image: int = 32
    min_tissue: float = 0.5
    spatial_dims: int | None = None
    intensity: str = "stored"
    max_pixels: int = 400_000_000
    leave_out: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_intensity(self.intensity)
        if self.crops not in CROPS:
            raise InputError(f"crops {self.crops!r} is none of {', '.join(CROPS)}")
        unknown = [name for name in self.leave_out if name not in NOTICES]
        if unknown:
            raise InputError(f"leave_out {unknown[0]!r} is none of {', '.join(NOTICES)}")
        if self.spatial_dims not in (None, 2, 3):
            raise InputError(f"spatial_dims is {self.spatial_dims}; give 2 or 3")
        if self.crops_per_image < 1 or (self.crop_size is not None and self.crop_size < 1):
            raise InputError("crop_size and crops_per_image are positive numbers")
        if not 0 < self.min_tissue <= 1:
            raise InputError(f"min_tissue is {self.min_tissue}; give a share above 0, up to 1")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")

    def size(self, spatial_dims: int) -> int:
        """Pixels along each axis of a crop."""
        return self.crop_size or {2: 512, 3: 96}[spatial_dims]


def prepare_image(source: str, root: Path, records: Records, settings: CropSettings, key: bytes) -> Record:
    """
    Read one image, write its crops, and keep the record.

    Args:
        source: relative path of the image.
        root: the folder that it is relative to.
        records: of the prepared folder.
        settings: what decides the crops.
        key: for hashing the patient id.

    Returns:
        the record; one without outputs tells why the image was skipped.

    Raises:
        InputError: if the image cannot be read.
    """
    status = (root / source).stat()
    image = read_image(root / source, settings.max_pixels, settings.intensity)
    reason = _reason_to_skip(image, settings)
    drawn = [] if reason else cut(image.pixels, settings, np.random.default_rng([settings.seed, _number(source)]))
    windows = [window for window in drawn if window.min() < window.max()]
    constant = f"{len(drawn) - len(windows)} constant windows left out" if len(windows) < len(drawn) else ""
    record = Record(
        source,
        status.st_size,
        status.st_mtime_ns,
        outputs=_write(source, records.output_dir, windows, _crop_spacing(image, settings)),
        reason=reason or "; ".join(filter(None, (_remark(len(drawn), image, settings), constant, *image.remarks))),
        scaling=image.scaling,
        spatial_dims=image.pixels.ndim,
        dark=int(image.pixels.max()) < 65536 // 4,
        facts={
            "laterality": image.laterality,
            "view": image.view,
            "spacing": _crop_spacing(image, settings),
            "hash": perceptual_hash(image.pixels),
        },
        patient=hash_patient(image.patient, key) if image.patient else None,
        study=hash_patient(image.study, key) if image.study else None,
        header=dict(image.header),
    )
    records.save(record)
    return record


def cut(pixels: np.ndarray, settings: CropSettings, rng: np.random.Generator) -> list[np.ndarray]:
    """
    The crops of an image: itself, padded, where it is no larger than one; else as the settings say.

    Args:
        pixels: (H, W) or (H, W, D), uint16.
        settings: what decides the crops.
        rng: draws the windows.

    Returns:
        uint16, each of the settings' size along every axis; none where no tissue was found.
    """
    size = settings.size(pixels.ndim)
    if max(pixels.shape) > size and settings.crops == "tissue":
        mask = breast_mask(pixels)
        centers = tissue_centers(mask, settings.crops_per_image, size, rng, settings.min_tissue)
        return [crop_at(pixels, center, size) for center in centers]
    if max(pixels.shape) > size:
        scale = size / max(pixels.shape)
        pixels = resize_crop(pixels, [max(1, round(length * scale)) for length in pixels.shape])
    return [crop_at(pixels, [length / 2 for length in pixels.shape], size)]


def _reason_to_skip(image: Image, settings: CropSettings) -> str:
    kinds = {2: "a 2D image", 3: "a volume"}
    if settings.spatial_dims not in (None, image.pixels.ndim):
        return f"{kinds[image.pixels.ndim]}, while spatial_dims is {settings.spatial_dims}"
    noticed = [notice for notice in notices(image.header) if notice in settings.leave_out]
    if noticed:
        return f"left out: {NOTICES[noticed[0]]}"
    return "constant: every pixel has one value" if image.pixels.min() == image.pixels.max() else ""


def _remark(count: int, image: Image, settings: CropSettings) -> str:
    """Why there are fewer windows than were asked for; "" where there are as many."""
    if count == 0:
        return "no tissue found; try --crops whole"
    if settings.crops == "whole" or count == settings.crops_per_image:
        return ""
    fits = max(image.pixels.shape) <= settings.size(image.pixels.ndim)
    why = "the image is no larger than a crop" if fits else "there are no more different windows of tissue"
    return f"{count} of {settings.crops_per_image} crops: {why}"


def _crop_spacing(image: Image, settings: CropSettings) -> tuple[float, ...] | None:
    """mm per pixel of the crops, which are coarser than the image where it was resized."""
    if image.spacing is None:
        return None
    size, longest = settings.size(image.pixels.ndim), max(image.pixels.shape)
    factor = longest / size if settings.crops == "whole" and longest > size else 1.0
    return tuple(value * factor for value in image.spacing)


def _write(source: str, folder: Path, windows: list[np.ndarray], spacing: tuple[float, ...] | None) -> tuple[str, ...]:
    """Write the crops; their names tell the source's stem, and by a digest of its path tell equal stems apart."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", without_suffix(source).name)[:60]
    outputs = []
    for number, window in enumerate(windows):
        suffix = "png" if window.ndim == 2 else "nii.gz"
        outputs.append(f"images/{stem}_{source_digest(source)[:8]}_{number:03d}.{suffix}")
        if window.ndim == 2:
            write_png16(folder / outputs[-1], window)
        else:
            write_volume(folder / outputs[-1], window, spacing)
    return tuple(outputs)


def _number(source: str) -> int:
    return int(source_digest(source), 16)
