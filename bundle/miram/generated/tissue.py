"""A breast without lesions: fat, gland, strands, vessels, muscle, skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special

from miram.generated.anatomy import Anatomy
from miram.generated.drawing import draw_curves, winding_curves
from miram.generated.noise import power_law_field, ridges

STREAKS = (1.0, 1.8)  # the gland's structures are elongated towards the nipple, along the columns


@dataclass(frozen=True)
class TissueSettings:
    """
    The brightness of each kind of tissue, as a fraction of the film's range.

    Args:
        fat: uniform fat of full thickness.
        gland: the densest gland, on top of fat.
        texture: standard deviation of the fat's cloudy texture.
        strands: connective tissue strands and ducts.
        vessels: blood vessels.
        muscle: the pectoral muscle.
        skin: the skin line.
        edge: pixels over which the compressed breast thins out, relative to the film's height.
    """

    fat: float = 0.42
    gland: float = 0.23
    texture: float = 0.022
    strands: float = 0.07
    vessels: float = 0.07
    muscle: float = 0.22
    skin: float = 0.05
    edge: float = 0.07


def draw_tissue(
    anatomy: Anatomy, density: int, rng: np.random.Generator, settings: TissueSettings | None = None
) -> np.ndarray:
    """
    Draw the breast, with air = 0.

    Args:
        anatomy: the film's geometry.
        density: breast density, 1 (fat) to 4 (extremely dense).
        rng: the source of randomness.
        settings: brightness of the tissues.

    Returns:
        (H, W) float32, roughly 0..0.9.
    """
    settings = settings or TissueSettings()
    shape = anatomy.depth.shape
    cloud = power_law_field(shape, 1.6, rng, stretch=STREAKS)
    gland = _gland(anatomy, density, cloud, rng)
    strands = _strands(anatomy, rng)
    fine = power_law_field(shape, 1.3, rng, finest=1.2, coarsest=30, stretch=STREAKS)
    image = settings.fat + settings.texture * cloud
    image += (0.4 + gland) * 0.020 * fine + gland * settings.gland * (1 + 0.2 * cloud)
    image += settings.strands * strands * (0.6 + 0.4 * gland)
    image += settings.vessels * _vessels(anatomy, rng)
    if anatomy.muscle is not None:
        image = _add_muscle(image, anatomy.muscle, settings.muscle, rng)
    return _compress(image, anatomy, settings)


def _gland(anatomy: Anatomy, density: int, cloud: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W) share of gland: a patchy cone from the nipple to the chest wall, larger for denser breasts."""
    rows, columns = anatomy.depth.shape
    row = np.arange(rows, dtype=np.float32)[:, None]
    column = np.arange(columns, dtype=np.float32)[None, :]
    reach = anatomy.nipple[1] - anatomy.middle[1]
    along = (anatomy.nipple[1] - column) / reach
    across = (row - anatomy.nipple[0] - 0.5 * (anatomy.middle[0] - anatomy.nipple[0]) * along) / (0.34 * rows)
    cone = 1.6 - 2.4 * (along - 0.42) ** 2 - 2.2 * across**2
    patches = power_law_field((rows, columns), 1.7, rng, finest=6, coarsest=0.25 * rows, stretch=STREAKS)
    level = {1: -2.6, 2: -1.7, 3: -0.8, 4: 0.2}[density] + rng.uniform(-0.3, 0.3)
    near_skin = np.clip(anatomy.depth / (0.06 * rows), 0, 1)
    return near_skin / (1 + np.exp(-2.2 * (cone + level + 0.75 * patches + 0.35 * cloud)))


def _strands(anatomy: Anatomy, rng: np.random.Generator, counts: tuple[int, ...] = (150, 90, 40)) -> np.ndarray:
    """(H, W) ducts and ligaments roughly towards the nipple, fine to coarse, with a faint mesh between them."""
    shape = anatomy.depth.shape
    mesh = ridges(power_law_field(shape, 1.6, rng, finest=9, coarsest=80), 0.12)
    patchy = np.clip(0.2 + 0.6 * power_law_field(shape, 1.4, rng, finest=12, coarsest=100), 0, 1.6)
    lines = 0.15 * mesh * patchy
    for count, width in zip(counts, (0.8, 1.4, 2.4), strict=True):
        start = rng.uniform((0, -0.1 * shape[1]), (shape[0], anatomy.nipple[1]), (count, 2))
        away = np.array(anatomy.nipple) - start
        heading = np.arctan2(away[:, 0], away[:, 1]) + 0.35 * rng.standard_normal(count)
        lengths = rng.uniform(0.06, 0.3, count) * shape[0] * (0.6 + 0.25 * width)
        brightness = rng.uniform(0.25, 1.0, count)
        lines += draw_curves(shape, *winding_curves(start, heading, lengths, brightness, 0.9, rng), width)
    return lines


def _vessels(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """(H, W) a few winding vessels, from the chest wall outwards."""
    shape, count = anatomy.depth.shape, int(rng.integers(2, 5))
    start = np.stack([anatomy.middle[0] + rng.uniform(-0.35, 0.35, count) * shape[0], np.full(count, -60.0)], axis=1)
    heading, lengths = rng.uniform(-0.4, 0.4, count), rng.uniform(0.5, 1.1, count) * shape[1]
    return draw_curves(shape, *winding_curves(start, heading, lengths, np.ones(count), 0.5, rng), rng.uniform(1.6, 2.8))


def _add_muscle(image: np.ndarray, muscle: np.ndarray, brightness: float, rng: np.random.Generator) -> np.ndarray:
    """Add the muscle over the tissue: brighter, with fibres along its edge."""
    share = scipy.special.expit(muscle / 4)
    fibres = power_law_field(image.shape, 1.3, rng, finest=4, coarsest=60, stretch=(5.0, 1.0))
    shift = np.arange(len(image))[:, None] * 3 // 5  # the fibres run parallel to the muscle's edge
    columns = (np.arange(image.shape[1])[None, :] + shift) % image.shape[1]
    thickness = np.clip(muscle / (0.3 * image.shape[1]), 0, 1)
    lift = brightness * (0.5 + 0.5 * thickness) + 0.012 * np.take_along_axis(fibres, columns, axis=1)
    return image + share * (lift - 0.35 * (image - image.mean()))


def _compress(image: np.ndarray, anatomy: Anatomy, settings: TissueSettings) -> np.ndarray:
    """Thin the breast towards its edge, add the skin, and set the air to 0."""
    depth = np.maximum(anatomy.depth, 0)
    thickness = 1 - np.exp(-((depth / (settings.edge * len(image))) ** 0.7) * 1.6)
    skin = np.exp(-(((depth - 4) / 2.5) ** 2)) * settings.skin
    inside = np.clip(anatomy.depth / 2 + 0.5, 0, 1)
    return inside * (image * thickness + skin)
