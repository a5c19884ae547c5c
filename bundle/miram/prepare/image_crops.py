"""One image of a folder to its crops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from miram.data.perceptual_hash import perceptual_hash
from miram.errors import InputError
from miram.prepare.crop_settings import CropSettings
from miram.prepare.prepared import write_png16, write_volume
from miram.prepare.records import Crop, Record, Records, hash_patient, source_digest
from miram.prepare.regions import Region
from miram.readers.formats import read_image, without_suffix
from miram.readers.header_notices import NOTICES, notices
from miram.readers.image import Image
from miram.transforms.crops import breast_mask, crop_at, cut_lesion, fit_crop, tissue_centers

NO_BOX = "no box in the table"


@dataclass(frozen=True)
class Window:
    """Pixels of a crop before they are written; see :class:`miram.prepare.records.Crop`."""

    pixels: np.ndarray
    kind: str
    mask: np.ndarray | None = None
    zoom: float = 1.0
    region: int | None = None


@dataclass(frozen=True)
class _Remark:
    """What to know of a region, and whether it cannot be used."""

    text: str
    faulty: bool = False


def prepare_image(
    source: str,
    root: Path,
    records: Records,
    settings: CropSettings,
    key: bytes,
    regions: Mapping[str, Sequence[Region]] | None = None,
) -> Record:
    """
    Read one image, write its crops, and keep the record.

    Args:
        source: relative path of the image.
        root: the folder that it is relative to.
        records: of the prepared folder.
        settings: what decides the crops.
        key: for hashing the patient id.
        regions: the lesions of each source, where they are known.

    Returns:
        the record; one without crops tells why the image was skipped.

    Raises:
        InputError: if the image cannot be read, or is a volume with regions.
    """
    records.discard(source)
    own = (regions or {}).get(source, ())
    record = _prepare_image(source, root, records.output_dir, settings, key, own)
    records.save(record)
    return record


def _prepare_image(
    source: str, root: Path, output_dir: Path, settings: CropSettings, key: bytes, regions: Sequence[Region]
) -> Record:
    status = (root / source).stat()
    common = Record(source, status.st_size, status.st_mtime_ns, regions=tuple(region.key for region in regions))
    if settings.crops == "lesion" and not regions:
        return replace(common, reason=NO_BOX)
    image = read_image(root / source, settings.max_pixels, settings.intensity)
    if regions and image.pixels.ndim != 2:
        raise InputError(f"{root / source} is a volume, and boxes are for 2D images; remove its rows from the table")
    reason = _reason_to_skip(image, settings)
    rng = np.random.default_rng([settings.seed, _number(source)])
    drawn, remarks, about = ([], [], "") if reason else _windows(image.pixels, settings, rng, regions)
    windows = [window for window in drawn if window.pixels.min() < window.pixels.max()]
    constant = f"{len(drawn) - len(windows)} constant windows left out" if len(windows) < len(drawn) else ""
    return replace(
        common,
        crops=_write(source, output_dir, windows, image.spacing),
        region_remarks=tuple(remark.text for remark in remarks),
        faulty=tuple(number for number, remark in enumerate(remarks) if remark.faulty),
        reason=reason or "; ".join(filter(None, (about, constant, *image.remarks))),
        scaling=image.scaling,
        spatial_dims=image.pixels.ndim,
        dark=int(image.pixels.max()) < 65536 // 4,
        facts={
            "laterality": image.laterality,
            "view": image.view,
            "spacing": image.spacing,
            "hash": perceptual_hash(image.pixels),
        },
        patient=hash_patient(image.patient, key) if image.patient else None,
        study=hash_patient(image.study, key) if image.study else None,
        header=dict(image.header),
    )


def _windows(
    pixels: np.ndarray, settings: CropSettings, rng: np.random.Generator, regions: Sequence[Region]
) -> tuple[list[Window], list[_Remark], str]:
    """The windows of an image, a remark on each region, and one on the windows of tissue."""
    windows, remarks, lesions = _cut_regions(pixels, settings, regions)
    if settings.crops == "lesion":
        return windows, remarks, "" if windows else "none of its boxes gives a crop"
    if settings.crops != "whole" and any(remark.faulty for remark in remarks):
        return windows, remarks, "no tissue crops: where one of its lesions lies is not known"
    others = cut(pixels, settings, rng, lesions)
    return windows + others, remarks, _remark(len(others), pixels, settings, lesions is not None)


def _cut_regions(
    pixels: np.ndarray, settings: CropSettings, regions: Sequence[Region]
) -> tuple[list[Window], list[_Remark], np.ndarray | None]:
    """The windows of lesions if wanted, a remark on each region, and the mask of all lesions."""
    windows, remarks = [], []
    lesions = np.zeros(pixels.shape, bool) if regions else None
    for number, region in enumerate(regions):
        try:
            mask, remark = region.mask(pixels.shape)
        except InputError as error:
            remarks.append(_Remark(str(error), faulty=True))
            continue
        lesions |= mask
        crop, crop_mask, zoom = cut_lesion(pixels, mask, settings.size(2), settings.context)
        empty = np.ptp(crop) == 0
        if np.ptp(pixels[mask]) == 0:  # a calcification may be so, a box in the air is not meant
            remark = "the image has one value there: are x and y pixels of this file?"
        remarks.append(_Remark(remark, faulty=bool(empty)))
        if settings.lesions and not empty:
            windows.append(Window(crop, "lesion", crop_mask, zoom, number))
    return windows, remarks, lesions


def cut(
    pixels: np.ndarray, settings: CropSettings, rng: np.random.Generator, lesions: np.ndarray | None = None
) -> list[Window]:
    """
    The crops of an image but for those of lesions: itself, padded, where it is no larger than one; else as the settings
    say.

    Args:
        pixels: (H, W) or (H, W, D), uint16.
        settings: what decides the crops.
        rng: draws the windows.
        lesions: of the pixels' shape, bool: avoided by windows of tissue, the mask of a whole image.

    Returns:
        uint16, each of the settings' size along every axis; none where no tissue was found.
    """
    size, whole = settings.size(pixels.ndim), settings.crops == "whole"
    if not whole and (max(pixels.shape) > size or lesions is not None):
        avoid = None if lesions is None else ndimage.binary_dilation(lesions)  # pixels that a box touches, too
        centers = tissue_centers(breast_mask(pixels), settings.windows, size, rng, settings.min_tissue, avoid)
        return [Window(crop_at(pixels, center, size), "tissue") for center in centers]
    zoom = min(1.0, size / max(pixels.shape))
    mask = None if lesions is None else np.where(fit_crop(lesions * np.uint16(65535), size) > 32767, 65535, 0)
    kind = "whole" if whole else "tissue"
    return [Window(fit_crop(pixels, size), kind, None if mask is None else mask.astype(np.uint16), zoom)]


def _reason_to_skip(image: Image, settings: CropSettings) -> str:
    kinds = {2: "a 2D image", 3: "a volume"}
    if settings.spatial_dims not in (None, image.pixels.ndim):
        return f"{kinds[image.pixels.ndim]}, while spatial_dims is {settings.spatial_dims}"
    noticed = [notice for notice in notices(image.header) if notice in settings.leave_out]
    if noticed:
        return f"left out: {NOTICES[noticed[0]]}"
    return "constant: every pixel has one value" if image.pixels.min() == image.pixels.max() else ""


def _remark(count: int, pixels: np.ndarray, settings: CropSettings, has_lesions: bool) -> str:
    """Why there are fewer windows than were asked for; "" where there are as many."""
    if settings.crops == "whole" or count == settings.windows:
        return ""
    if count == 0:
        return "no tissue crop fits beside its lesions" if has_lesions else "no tissue found; try --crops whole"
    fits = max(pixels.shape) <= settings.size(pixels.ndim)
    why = "the image is no larger than a crop" if fits else "there are no more different windows of tissue"
    return f"{count} of {settings.windows} crops: {why}{', beside its lesions' if has_lesions else ''}"


def _write(source: str, folder: Path, windows: Sequence[Window], spacing: tuple[float, ...] | None) -> tuple[Crop, ...]:
    """Write the crops; their names tell the source's stem, and by a digest of its path tell equal stems apart."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", without_suffix(source).name)[:60]
    crops, numbers = [], Counter[bool]()
    for window in windows:
        lesion = window.kind == "lesion"
        name = f"{stem}_{source_digest(source)[:8]}_{'lesion_' * lesion}{numbers[lesion]:03d}"
        numbers[lesion] += 1
        suffix = "png" if window.pixels.ndim == 2 else "nii.gz"
        crop = Crop(f"images/{name}.{suffix}", window.kind, zoom=window.zoom, region=window.region)
        if window.pixels.ndim == 2:
            write_png16(folder / crop.image, window.pixels)
        else:
            write_volume(folder / crop.image, window.pixels, crop_spacing(spacing, window.zoom))
        if window.mask is not None:
            crop = replace(crop, mask=f"masks/{name}.png")
            write_png16(folder / f"masks/{name}.png", window.mask)
        crops.append(crop)
    return tuple(crops)


def crop_spacing(spacing: Sequence[float] | None, zoom: float) -> tuple[float, ...] | None:
    """mm per pixel of a crop, which is coarser than its image where it was reduced."""
    return None if spacing is None else tuple(value / zoom for value in spacing)


def _number(source: str) -> int:
    return int(source_digest(source), 16)
