"""The crops of one image: what decides them, where they are cut, and remarks on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from miram.errors import InputError
from miram.prepare.regions import Region
from miram.readers.dicom_facts import NOTICES
from miram.readers.image import check_intensity
from miram.transforms.crops import breast_mask, crop_at, cut_lesion, fit_crop, tissue_centers

CROPS = ("tissue", "whole", "lesion", "both")
# What decides crops of one kind only
OF_LESIONS, OF_TISSUE = ("context",), ("crops_per_image", "min_tissue", "seed")
UNUSED = {"tissue": OF_LESIONS, "whole": OF_LESIONS + OF_TISSUE, "lesion": OF_TISSUE, "both": ()}


@dataclass(frozen=True)
class CropSettings:
    """What decides the crops."""

    # "tissue" (random windows of tissue, in original pixels), "whole" (the image, resized and padded), "lesion" (around
    # each region of the image) or "both" (lesions and tissue)
    crops: str = "tissue"
    crop_size: int | None = None  # pixels along each axis; None is 512 for images, 96 for volumes
    # windows of tissue per image that is larger than a crop; None is 32, beside lesions 4
    crops_per_image: int | None = None
    min_tissue: float = 0.5  # share of such a window that is tissue
    context: float = 1.5  # a lesion's crop is at least this many times its bounding box
    spatial_dims: int | None = None  # 2 or 3 keeps images or volumes only; None takes what comes
    intensity: str = "stored"  # see :func:`miram.readers.formats.read_image`
    max_pixels: int = 400_000_000  # larger images are refused
    # images whose headers have one of these :data:`miram.readers.dicom_facts.NOTICES` are skipped
    leave_out: tuple[str, ...] = ()
    seed: int = 0  # of the windows

    def __post_init__(self) -> None:
        check_intensity(self.intensity)
        if self.crops not in CROPS:
            raise InputError(f"crops {self.crops!r} is not one of {', '.join(CROPS)}")
        unknown = [name for name in self.leave_out if name not in NOTICES]
        if unknown:
            raise InputError(f"leave_out {unknown[0]!r} is not one of {', '.join(NOTICES)}")
        if self.spatial_dims not in (None, 2, 3):
            raise InputError(f"spatial_dims is {self.spatial_dims}; give 2 or 3")
        if self.context < 1:
            raise InputError(f"context is {self.context}; give 1 (the box alone) or more")
        if self.windows < 1 or (self.crop_size is not None and self.crop_size < 1):
            raise InputError("crop_size and crops_per_image are positive numbers")
        if not 0 < self.min_tissue <= 1:
            raise InputError(f"min_tissue is {self.min_tissue}; give a share above 0, up to 1")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")

    @property
    def windows(self) -> int:
        """Windows of tissue per image."""
        default = 4 if self.crops == "both" else 32
        return default if self.crops_per_image is None else self.crops_per_image

    @property
    def lesions(self) -> bool:
        """Whether crops of lesions are wanted."""
        return self.crops in ("lesion", "both")

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the pixels of the crops wanted."""
        values = asdict(self) | {"crops_per_image": self.windows}
        return {name: value for name, value in values.items() if name not in UNUSED[self.crops]}

    def size(self, spatial_dims: int) -> int:
        """Pixels along each axis of a crop."""
        return self.crop_size or {2: 512, 3: 96}[spatial_dims]

    def facts(self, spatial_dims: int) -> dict[str, Any]:
        """What the data list says of the crops, and a model keeps."""
        return {"crops": self.crops, "crop_size": self.size(spatial_dims), "intensity": self.intensity}


@dataclass(frozen=True)
class Window:
    """Pixels of a crop before they are written; see :class:`miram.prepare.records.Crop`."""

    pixels: np.ndarray
    kind: str
    mask: np.ndarray | None = None
    zoom: float = 1.0
    region: int | None = None


@dataclass(frozen=True)
class Remark:
    """What to know about a region, and whether it cannot be used."""

    text: str
    faulty: bool = False


def cut_image(
    pixels: np.ndarray,
    settings: CropSettings,
    rng: np.random.Generator,
    regions: Sequence[Region] = (),
) -> tuple[list[Window], list[Remark], str]:
    """
    Cut all crops of an image: around its lesions, and elsewhere.

    Args:
        pixels: (H, W) or (H, W, D), uint16.
        rng: draws the windows of tissue, which contain no pixel of a lesion.
        regions: its lesions, of a 2D image.

    Returns:
        the windows, none of them constant; a remark on each region; and a remark on the crops that are missing.
    """
    windows, remarks, lesions = _cut_regions(pixels, settings, regions)
    if settings.crops == "lesion":
        return windows, remarks, "" if windows else "none of its boxes gives a crop"
    if settings.crops != "whole" and any(remark.faulty for remark in remarks):
        return windows, remarks, "no tissue crops: where one of its lesions lies is not known"
    others = cut(pixels, settings, rng, lesions)
    kept = [window for window in others if np.ptp(window.pixels)]
    constant = f"{len(others) - len(kept)} constant windows left out" if len(kept) < len(others) else ""
    missing = _remark(len(others), pixels, settings, lesions is not None)
    return windows + kept, remarks, "; ".join(filter(None, (missing, constant)))


def _cut_regions(
    pixels: np.ndarray, settings: CropSettings, regions: Sequence[Region]
) -> tuple[list[Window], list[Remark], np.ndarray | None]:
    """The windows of lesions if wanted, a remark on each region, and the mask of all lesions."""
    windows, remarks = [], []
    lesions = np.zeros(pixels.shape, bool) if regions else None
    for number, region in enumerate(regions):
        try:
            mask, remark = region.mask(pixels.shape)
        except InputError as error:
            remarks.append(Remark(str(error), faulty=True))
            continue
        lesions |= mask
        crop, crop_mask, zoom = cut_lesion(pixels, mask, settings.size(2), settings.context)
        empty = np.ptp(crop) == 0
        if np.ptp(pixels[mask]) == 0:  # true of some calcifications, but more likely a place in the air
            remark = region.if_constant
        remarks.append(Remark(remark, faulty=bool(empty)))
        if settings.lesions and not empty:
            windows.append(Window(crop, "lesion", crop_mask, zoom, number))
    return windows, remarks, lesions


def cut(
    pixels: np.ndarray, settings: CropSettings, rng: np.random.Generator, lesions: np.ndarray | None = None
) -> list[Window]:
    """
    The crops of an image other than those of lesions; an image that is not larger than a crop is padded to one.

    Args:
        pixels: (H, W) or (H, W, D), uint16.
        rng: draws the windows.
        lesions: of the pixels' shape, bool: avoided by windows of tissue, the mask of a whole image.

    Returns:
        uint16, each of the settings' size along every axis; none where no tissue was found.
    """
    size, whole = settings.size(pixels.ndim), settings.crops == "whole"
    if not whole and (max(pixels.shape) > size or lesions is not None):
        avoid = None if lesions is None else ndimage.binary_dilation(lesions)  # also the pixels that a box touches
        centers = tissue_centers(breast_mask(pixels), settings.windows, size, rng, settings.min_tissue, avoid)
        return [Window(crop_at(pixels, center, size), "tissue") for center in centers]
    zoom = min(1.0, size / max(pixels.shape))
    mask = None if lesions is None else np.where(fit_crop(lesions * np.uint16(65535), size) > 32767, 65535, 0)
    kind = "whole" if whole else "tissue"
    return [Window(fit_crop(pixels, size), kind, None if mask is None else mask.astype(np.uint16), zoom)]


def _remark(count: int, pixels: np.ndarray, settings: CropSettings, has_lesions: bool) -> str:
    """Why there are fewer windows than were asked for; "" where there are as many."""
    if settings.crops == "whole" or count == settings.windows:
        return ""
    if count == 0:
        return "no tissue crop fits beside its lesions" if has_lesions else "no tissue found; try --crops whole"
    fits = max(pixels.shape) <= settings.size(pixels.ndim)
    why = "the image is no larger than a crop" if fits else "there are no more different windows of tissue"
    return f"{count} of {settings.windows} crops: {why}{', beside its lesions' if has_lesions else ''}"
