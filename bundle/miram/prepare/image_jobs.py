"""Cut images into files of crops, in a pool of processes; what an earlier run has done is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from miram.data.leakage import perceptual_hash
from miram.errors import InputError
from miram.jobs import run_jobs
from miram.prepare.image_crops import CropSettings, Window, cut_image
from miram.prepare.prepared import write_png16, write_volume
from miram.prepare.records import Crop, Record, Records, hash_patient, source_digest
from miram.prepare.regions import Region
from miram.readers.dicom_facts import NOTICES, notices
from miram.readers.formats import read_image, without_suffix
from miram.readers.image import Image

NO_BOX = "no box in the table"


@dataclass(frozen=True)
class ImageJob:
    """An image and its crops."""

    source: str  # its relative path
    seed: int  # of the places of its tissue crops, with the settings' seed: the same whatever other images there are
    tissue: tuple[str, ...]  # the names of its crops that are not of a lesion, as many as may be wanted
    regions: tuple[Region, ...] = ()  # its lesions
    lesions: tuple[str, ...] = ()  # the name of each lesion's crop

    def names(self, crops: Sequence[Window | Crop]) -> list[str]:
        """The names of crops: a lesion's is its own, the others are counted."""
        others = iter(self.tissue)
        return [next(others, "") if crop.region is None else self.lesions[crop.region] for crop in crops]


def numbered_job(source: str, settings: CropSettings, regions: Sequence[Region] = ()) -> ImageJob:
    """The job of an image whose crops are numbered; a digest of the path keeps equal file names apart."""
    digest = source_digest(source)
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", without_suffix(source).name)[:60] + f"_{digest[:8]}"
    tissue = tuple(f"{stem}_{number:03d}" for number in range(settings.windows))
    lesions = tuple(f"{stem}_lesion_{number:03d}" for number in range(len(regions)))
    return ImageJob(source, int(digest, 16), tissue, tuple(regions), lesions)


def prepare_images(
    jobs: Sequence[ImageJob],
    root: Path,
    records: Records,
    settings: CropSettings,
    workers: int | None = None,
    overwrite: bool = False,
    time_limit: float = 300.0,
) -> tuple[dict[str, Record | InputError], int]:
    """
    Cut the crops of images, as far as an earlier run has not.

    An image is cut again if it, its lesions or the names of its crops have changed, a crop is missing, or one of its
    lesions could not be used.

    Args:
        workers: see :func:`miram.jobs.run_jobs`.

    Returns:
        the record or error of each image by its path, and how many records an earlier run had left.

    Raises:
        InputError: if the folder cannot be continued (:meth:`miram.prepare.records.Records.check`).
    """
    records.begin(settings.decisive, overwrite)
    kept = {job.source: record for job in jobs if (record := _earlier(job, root, records))}
    todo = [job for job in jobs if job.source not in kept]
    work = partial(prepare_image, root=root, records=records, settings=settings, key=records.key())
    done = run_jobs(todo, work, workers, "preparing", time_limit, name=lambda job: str(root / job.source))
    made = dict(zip((job.source for job in todo), done, strict=True))
    return {job.source: kept.get(job.source) or made[job.source] for job in jobs}, len(kept)


def _earlier(job: ImageJob, root: Path, records: Records) -> Record | None:
    """An earlier run's record, if it is what this job would give."""
    record = records.load(job.source, root / job.source, [region.key for region in job.regions])
    if record is None or record.faulty:
        return None
    named = [without_suffix(crop.image).name for crop in record.crops]
    return record if named == job.names(record.crops) else None


def prepare_image(job: ImageJob, root: Path, records: Records, settings: CropSettings, key: bytes) -> Record:
    """
    Read one image, write its crops, and keep the record; `key` hashes the patient's id.

    Returns:
        the record; one without crops tells why the image was skipped.

    Raises:
        InputError: if the image cannot be read, or is a volume with regions.
    """
    records.discard(job.source)
    record = _prepare_image(job, root, records.output_dir, settings, key)
    records.save(record)
    return record


def _prepare_image(job: ImageJob, root: Path, output_dir: Path, settings: CropSettings, key: bytes) -> Record:
    path = root / job.source
    status = path.stat()
    common = Record(job.source, status.st_size, status.st_mtime_ns, regions=tuple(one.key for one in job.regions))
    if settings.crops == "lesion" and not job.regions:
        return replace(common, reason=NO_BOX)
    image = read_image(path, settings.max_pixels, settings.intensity)
    if job.regions and image.pixels.ndim != 2:
        raise InputError(f"{path} is a volume, and boxes are for 2D images; remove its rows from the table")
    common = replace(common, **_facts(image, key))
    reason = _reason_to_skip(image, settings)
    if reason:
        return replace(common, reason=reason)
    rng = np.random.default_rng([settings.seed, job.seed])
    windows, remarks, missing = cut_image(image.pixels, settings, rng, job.regions)
    return replace(
        common,
        crops=_write(job, output_dir, windows, image.spacing),
        region_remarks=tuple(remark.text for remark in remarks),
        faulty=tuple(number for number, remark in enumerate(remarks) if remark.faulty),
        reason="; ".join(filter(None, (missing, *image.remarks))),
    )


def _facts(image: Image, key: bytes) -> dict[str, Any]:
    """What a record says of an image, whatever is cut from it."""
    return {
        "scaling": image.scaling,
        "spatial_dims": image.pixels.ndim,
        "dark": int(image.pixels.max()) < 65536 // 4,
        "facts": {
            "laterality": image.laterality,
            "view": image.view,
            "spacing": image.spacing,
            "hash": perceptual_hash(image.pixels),
        },
        "patient": hash_patient(image.patient, key) if image.patient else None,
        "study": hash_patient(image.study, key) if image.study else None,
        "header": dict(image.header),
    }


def _reason_to_skip(image: Image, settings: CropSettings) -> str:
    kinds = {2: "a 2D image", 3: "a volume"}
    if settings.spatial_dims not in (None, image.pixels.ndim):
        return f"{kinds[image.pixels.ndim]}, while spatial_dims is {settings.spatial_dims}"
    noticed = [notice for notice in notices(image.header) if notice in settings.leave_out]
    if noticed:
        return f"left out: {NOTICES[noticed[0]]}"
    return "constant: every pixel has one value" if image.pixels.min() == image.pixels.max() else ""


def _write(
    job: ImageJob, folder: Path, windows: Sequence[Window], spacing: tuple[float, ...] | None
) -> tuple[Crop, ...]:
    crops = []
    for window, name in zip(windows, job.names(windows), strict=True):
        mask = None if window.mask is None else f"masks/{name}.png"
        if window.mask is not None:
            write_png16(folder / f"masks/{name}.png", window.mask)
        image = f"images/{name}.{'png' if window.pixels.ndim == 2 else 'nii.gz'}"
        if window.pixels.ndim == 2:
            write_png16(folder / image, window.pixels)
        else:
            write_volume(folder / image, window.pixels, crop_spacing(spacing, window.zoom))
        crops.append(Crop(image, window.kind, mask, window.zoom, window.region))
    return tuple(crops)


def crop_spacing(spacing: Sequence[float] | None, zoom: float) -> tuple[float, ...] | None:
    """mm per pixel of a crop, which is coarser than its image where it was reduced."""
    return None if spacing is None else tuple(value / zoom for value in spacing)
