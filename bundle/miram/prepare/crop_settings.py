"""What decides the crops of an image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from miram.errors import InputError
from miram.readers.dicom_facts import NOTICES
from miram.readers.image import check_intensity

CROPS = ("tissue", "whole", "lesion", "both")
# What decides crops of one kind only
OF_LESIONS, OF_TISSUE = ("context",), ("crops_per_image", "min_tissue", "seed")
UNUSED = {"tissue": OF_LESIONS, "whole": OF_LESIONS + OF_TISSUE, "lesion": OF_TISSUE, "both": ()}


@dataclass(frozen=True)
class CropSettings:
    """
    What decides the crops.

    Args:
        crops: "tissue" (random windows of tissue, in original pixels), "whole" (the image, resized and padded),
            "lesion" (around each region of the image) or "both" (lesions and tissue).
        crop_size: pixels along each axis; None is 512 for images, 96 for volumes.
        crops_per_image: windows of tissue per image that is larger than a crop; None is 32, beside lesions 4.
        min_tissue: share of such a window that is tissue.
        context: a lesion's crop is at least this many times its bounding box.
        spatial_dims: 2 or 3 keeps images or volumes only; None takes what comes.
        intensity: see :func:`miram.readers.formats.read_image`.
        max_pixels: larger images are refused.
        leave_out: images whose headers have one of these :data:`miram.readers.dicom_facts.NOTICES` are skipped.
        seed: of the windows.
    """

    crops: str = "tissue"
    crop_size: int | None = None
    crops_per_image: int | None = None
    min_tissue: float = 0.5
    context: float = 1.5
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
