"""The crops of one mammogram of CBIS-DDSM: around each of its lesions, and of its breast tissue anywhere."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miram.data.perceptual_hash import perceptual_hash
from miram.errors import InputError
from miram.prepare.cbis_ddsm.layout import DicomFile
from miram.prepare.cbis_ddsm.masks import find_mask
from miram.prepare.prepared import write_png16
from miram.readers.formats import read_image
from miram.transforms.crops import breast_mask, crop_at, cut_lesion, tissue_centers


@dataclass(frozen=True)
class CropSettings:
    """
    What decides a crop's pixels.

    Args:
        crops: "lesion", "tissue" (random breast tissue, unlabelled) or "both".
        crop_size: side of the stored crops in pixels.
        context: a lesion's crop is at least this many times its bounding box.
        crops_per_image: tissue crops of each mammogram.
        mask_tolerance: see :func:`miram.prepare.cbis_ddsm.masks.fit_mask`.
        seed: of the tissue crops' places.
    """

    crops: str = "lesion"
    crop_size: int = 512
    context: float = 1.5
    crops_per_image: int = 4
    mask_tolerance: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crops not in ("lesion", "tissue", "both"):
            raise InputError(f"--crops is {self.crops!r}; give lesion, tissue or both")
        for name, least in {
            "crop_size": 16,
            "context": 1,
            "crops_per_image": 1,
            "mask_tolerance": 0,
            "seed": 0,
        }.items():
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {getattr(self, name)}; give {least} or more")


@dataclass(frozen=True)
class ImageJob:
    """
    One mammogram and what to cut from it.

    Args:
        image: the full mammogram's file.
        lesions: for each lesion's name the files of its series, the mask and the cropped image in unknown order.
        tissue: the names of the tissue crops.
    """

    image: DicomFile
    lesions: dict[str, tuple[DicomFile, ...]]
    tissue: tuple[str, ...]


@dataclass
class ImageCrops:
    """
    What became of an :class:`ImageJob`.

    Args:
        zooms: for each crop written, by name, its pixels per original pixel: 1 at native resolution, less if reduced.
        problems: for each crop that could not be made, by name, the reason.
        notes: what is worth telling of a crop that was made.
        scaling: how the mammogram's stored values became 0..65535.
        hash: the mammogram's perceptual hash.
    """

    zooms: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    scaling: str = ""
    hash: str = ""


def image_path(name: str) -> str:
    """Where a crop lies in the prepared folder."""
    return f"images/{name}.png"


def mask_path(name: str) -> str:
    """Where a lesion crop's mask lies in the prepared folder."""
    return f"masks/{name}.png"


def cut_image(job: ImageJob, dicom_dir: Path, output_dir: Path, settings: CropSettings) -> ImageCrops:
    """Read a mammogram once, and write the crops of its lesions with their masks, and its tissue crops."""
    try:
        source = read_image(dicom_dir / job.image.path)
    except InputError as error:
        return ImageCrops(problems=dict.fromkeys((*job.lesions, *job.tissue), str(error)))
    image, crops = source.pixels, ImageCrops(scaling=source.scaling, hash=perceptual_hash(source.pixels))
    lesions = np.zeros(image.shape, bool)
    for name, files in job.lesions.items():
        try:
            mask, note = find_mask([dicom_dir / file.path for file in files], image.shape, settings.mask_tolerance)
        except InputError as error:
            crops.problems[name] = str(error)
            continue
        lesions |= mask
        crop, crop_mask, zoom = cut_lesion(image, mask, settings.crop_size, settings.context)
        if crop.min() == crop.max():
            crops.problems[name] = f"{job.image.path} is constant where the mask has the lesion"
            continue
        crops.zooms[name] = zoom
        write_png16(output_dir / mask_path(name), crop_mask)
        write_png16(output_dir / image_path(name), crop)
        if note:
            crops.notes[name] = note
    if job.tissue:
        _cut_tissue(image, lesions, job, output_dir, settings, crops)
    return crops


def _cut_tissue(
    image: np.ndarray,
    lesions: np.ndarray,
    job: ImageJob,
    output_dir: Path,
    settings: CropSettings,
    crops: ImageCrops,
) -> None:
    """Windows of tissue that contain no pixel of a lesion, where its mask is read (not with `crops` "tissue")."""
    # The places depend on the seed and the series alone: not on the order or number of jobs, so that a run can resume.
    rng = np.random.default_rng([settings.seed, zlib.crc32(job.image.series.encode())])
    centers = tissue_centers(breast_mask(image), len(job.tissue), settings.crop_size, rng, avoid=lesions)
    for name, center in zip(job.tissue, centers, strict=False):
        write_png16(output_dir / image_path(name), crop_at(image, center, settings.crop_size))
        crops.zooms[name] = 1.0
    for name in job.tissue[len(centers) :]:
        crops.problems[name] = f"{job.image.path} has tissue for {len(centers)} different crops only"
