"""A whole film: the breast, its lesions, the film's grain, and the label."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from miram.generated.calcifications import draw_calcification
from miram.generated.masses import Lesion, draw_mass
from miram.generated.patients import Finding, View
from miram.generated.tissue import Anatomy, TissueSettings, draw_anatomy, draw_tissue


@dataclass(frozen=True)
class FilmSettings:
    """How a film is made from the breast."""

    tissue: TissueSettings = field(default_factory=TissueSettings)  # brightness of the tissues
    # mean contrast of masses with subtlety 1 and 5, as fractions of the film's range
    mass_contrast: tuple[float, float] = (0.06, 0.14)
    calc_contrast: tuple[float, float] = (0.03, 0.06)  # the same for calcifications with the tissue around them
    largest_radius: float = 130.0  # of a lesion in pixels, so that it fits into a crop with its surroundings
    blur: float = 0.55  # standard deviation of the blur of film and scanner, in pixels
    grain: float = 0.005  # standard deviation of the film's noise
    air: tuple[float, float] = (0.015, 0.05)  # smallest and largest gray level of the air
    label_fraction: float = 0.6  # share of films with a burned-in label


@dataclass(frozen=True)
class Mammogram:
    """A film."""

    pixels: np.ndarray  # (H, W) uint16
    masks: tuple[np.ndarray, ...]  # one (H, W) bool for each finding of the view


def draw_mammogram(
    view: View, density: int, size: tuple[int, int], rng: np.random.Generator, settings: FilmSettings
) -> Mammogram:
    """Draw one view with its findings."""
    anatomy = draw_anatomy(size, view.view, rng)
    image = draw_tissue(anatomy, density, rng, settings.tissue)
    masks = []
    for finding in view.findings:
        center, lesion = _draw_lesion(finding, anatomy, settings, rng)
        masks.append(_add(image, lesion, center, anatomy))
    image = _develop(image, settings, rng)
    if view.side == "RIGHT":  # the chest wall is at the right edge
        image, masks = image[:, ::-1].copy(), [mask[:, ::-1].copy() for mask in masks]
    if rng.random() < settings.label_fraction:
        _burn_label(image, view, rng)
    return Mammogram(np.rint(np.clip(image, 0, 1) * 65535).astype(np.uint16), tuple(masks))


def _draw_lesion(
    finding: Finding, anatomy: Anatomy, settings: FilmSettings, rng: np.random.Generator
) -> tuple[tuple[int, int], Lesion]:
    radius = min(finding.radius * len(anatomy.depth), settings.largest_radius)
    center = anatomy.place(finding.position, radius)
    subtle, obvious = settings.mass_contrast if finding.kind == "mass" else settings.calc_contrast
    contrast = (subtle + (obvious - subtle) * (max(finding.subtlety, 1) - 1) / 4) * rng.uniform(0.8, 1.25)
    if finding.kind == "mass":
        return center, draw_mass(finding.shape, finding.margin, radius, contrast, rng)
    direction = float(np.arctan2(anatomy.nipple[0] - center[0], anatomy.nipple[1] - center[1]))
    return center, draw_calcification(finding.shape, finding.margin, radius, contrast, direction, rng)


def _add(image: np.ndarray, lesion: Lesion, center: tuple[int, int], anatomy: Anatomy) -> np.ndarray:
    """Add a lesion to the image in place, only inside the breast; return its mask on the whole image."""
    half = len(lesion.mask) // 2
    begin = [max(0, half - place) for place in center]
    end = [min(len(lesion.mask), half + size - place) for place, size in zip(center, image.shape, strict=True)]
    part = tuple(slice(*ends) for ends in zip(begin, end, strict=True))
    window = tuple(
        slice(place - half + low, place - half + high) for place, low, high in zip(center, begin, end, strict=True)
    )
    breast = np.clip(anatomy.depth[window] / 8, 0, 1)
    image[window] += lesion.contrast[part] * breast
    mask = np.zeros(image.shape, dtype=bool)
    mask[window] = lesion.mask[part] & (breast > 0)
    return mask


def _develop(image: np.ndarray, settings: FilmSettings, rng: np.random.Generator) -> np.ndarray:
    """Apply exposure, the gray level of the air, and the film's grain."""
    air, gain = rng.uniform(*settings.air), rng.uniform(0.8, 1.2)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * (0.25 + np.sqrt(np.maximum(image, 0)))
    image = ndimage.gaussian_filter(image + settings.grain * noise, settings.blur, truncate=3)
    bright = np.where(image > 0.7, 0.7 + 0.6 * (image - 0.7), image)  # the shoulder of the film's curve
    return air + gain * (1 - air) * bright


def _burn_label(image: np.ndarray, view: View, rng: np.random.Generator) -> None:
    """Write side and view into the air, in place."""
    height = max(14, len(image) // 32)
    canvas = Image.new("L", (6 * height, 2 * height))
    ImageDraw.Draw(canvas).text((4, 2), f"{view.side[0]} {view.view}", fill=255, font=ImageFont.load_default(height))
    text = np.asarray(canvas.crop(canvas.getbbox()), dtype=np.float32) / 255
    row = int(rng.uniform(0.03, 0.06) * len(image))
    column = int(rng.uniform(0.02, 0.05) * image.shape[1])
    left = image.shape[1] - column - text.shape[1] if view.side == "LEFT" else column
    window = image[row : row + text.shape[0], left : left + text.shape[1]]
    np.maximum(window, text * rng.uniform(0.7, 0.95), out=window)
