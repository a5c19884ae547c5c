"""A breast without lesions: its outline, fat, gland, strands, vessels, muscle, skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special
from scipy import ndimage

from miram.generated.drawing import draw_curves, enlarge, power_law_field, ridges, winding_curves

STREAKS = (1.0, 1.8)  # the gland's structures are elongated towards the nipple, along the columns


@dataclass(frozen=True)
class Anatomy:
    """The geometry of one film, with the chest wall at the left edge."""

    # (H, W) float32, distance to the skin in pixels, negative in the air; the film's edge is not skin
    depth: np.ndarray
    nipple: tuple[float, float]  # its row and column
    # (H, W) float32, distance to the muscle's edge in pixels, positive in the muscle; None in a CC view
    muscle: np.ndarray | None
    middle: tuple[float, float]  # row and column of the centre of the gland's base at the chest wall

    def place(self, position: tuple[float, float], radius: float) -> tuple[int, int]:
        """
        The centre pixel of a lesion at a relative `position`, moved inwards until it is surrounded by tissue.

        Args:
            position: depth from the chest wall (0..1) and height (-1..1) relative to the breast.
            radius: of the lesion, in pixels.
        """
        rows, columns = self.depth.shape
        room = self.depth[::8, ::8]
        inside = room > min(radius * 1.1, 0.7 * float(room.max()))
        margin = int(min(radius * 1.15, 0.3 * columns) // 8)
        inside[:margin], inside[len(inside) - margin :], inside[:, :margin] = False, False, False
        if self.muscle is not None and np.any(inside & (self.muscle[::8, ::8] < -radius / 2)):
            inside &= self.muscle[::8, ::8] < -radius / 2
        target = (
            self.middle[0] + position[1] * 0.45 * rows,
            self.middle[1] + position[0] * (self.nipple[1] - self.middle[1]),
        )
        places = np.argwhere(inside) * 8 if inside.any() else np.argwhere(room == room.max()) * 8
        nearest = places[np.argmin(((places - target) ** 2).sum(1))]
        return int(nearest[0]), int(nearest[1])


def draw_anatomy(shape: tuple[int, int], view: str, rng: np.random.Generator) -> Anatomy:
    """Draw the geometry of a film of `shape` (H, W); `view` is CC or MLO."""
    rows, columns = shape
    oblique = view == "MLO"
    center = (rng.uniform(0.56, 0.68) if oblique else rng.uniform(0.44, 0.56)) * rows
    width = rng.uniform(0.56, 0.88) * columns
    edge = _outline(rows, center, width, oblique, rng)
    nipple_row = center + rng.uniform(-0.04, 0.04) * rows
    nipple = (nipple_row, float(edge[int(nipple_row)]))
    depth = _depth(shape, edge, nipple)
    return Anatomy(depth, nipple, _muscle(shape, rng) if oblique else None, (center, 0.0))


def _outline(rows: int, center: float, width: float, oblique: bool, rng: np.random.Generator) -> np.ndarray:
    """(H,) the column of the skin in each row, 0 or less if the row is in the air."""
    row = np.arange(rows, dtype=np.float32)
    above = (rng.uniform(1.0, 1.2) if oblique else rng.uniform(0.4, 0.46)) * rows
    below = min(rng.uniform(0.31, 0.36) if oblique else rng.uniform(0.4, 0.46), 0.97 - center / rows) * rows
    height = np.where(row < center, (center - row) / above, (row - center) / below)
    power = rng.uniform(1.8, 2.4)
    edge = width * np.sign(1 - height) * np.abs(1 - np.abs(height) ** power) ** (1 / rng.uniform(1.75, 2.0))
    if oblique:  # the fold between breast and armpit
        fold = np.clip((center - row) / center, 0, 1)
        edge = edge * (1 - rng.uniform(0.3, 0.5) * np.sin(np.pi / 2 * fold) ** 2)
    wave = ndimage.gaussian_filter1d(rng.standard_normal(rows), 0.06 * rows)
    return edge + 0.02 * width * wave / wave.std()


def _depth(shape: tuple[int, int], edge: np.ndarray, nipple: tuple[float, float], step: int = 4) -> np.ndarray:
    """Signed distance to the skin, computed on every fourth pixel only, since it is smooth."""
    rows, columns = -(-shape[0] // step) + 1, -(-shape[1] // step) + 1
    row, column = np.mgrid[:rows, :columns] * step
    inside = column < edge[np.minimum(row, shape[0] - 1)]
    bump = 0.012 * shape[0]
    inside |= (row - nipple[0]) ** 2 + ((column - nipple[1]) / 1.2) ** 2 < bump**2
    inside = np.pad(inside, ((12, 12), (200, 0)), mode="edge")  # the film's edges are not skin
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    signed = ndimage.gaussian_filter(signed[12:-12, 200:], 1.2) * step
    tall, wide = (rows - 1) * step + 1, (columns - 1) * step + 1
    return enlarge(signed, (tall, wide))[: shape[0], : shape[1]]


def _muscle(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Signed distance to the pectoral muscle's slightly curved edge, a triangle at the top of the chest wall."""
    top, bottom = rng.uniform(0.28, 0.42) * shape[1], rng.uniform(0.5, 0.7) * shape[0]
    row = np.arange(shape[0], dtype=np.float32)[:, None]
    column = np.arange(shape[1], dtype=np.float32)[None, :]
    bulge = rng.uniform(-0.02, 0.06) * shape[1] * np.sin(np.pi * np.clip(row / bottom, 0, 1))
    return (top * (1 - row / bottom) + bulge - column) * np.float32(bottom / np.hypot(top, bottom))


@dataclass(frozen=True)
class TissueSettings:
    """The brightness of each kind of tissue, as a fraction of the film's range."""

    fat: float = 0.42  # uniform fat of full thickness
    gland: float = 0.23  # the densest gland, on top of fat
    texture: float = 0.022  # standard deviation of the fat's cloudy texture
    strands: float = 0.07  # connective tissue strands and ducts
    vessels: float = 0.07  # blood vessels
    muscle: float = 0.22  # the pectoral muscle
    skin: float = 0.05  # the skin line
    edge: float = 0.07  # pixels over which the compressed breast thins out, relative to the film's height


def draw_tissue(anatomy: Anatomy, density: int, rng: np.random.Generator, settings: TissueSettings) -> np.ndarray:
    """Draw the breast (H, W), float32 of about 0..0.9, air = 0; `density` is from 1 (fat) to 4 (extremely dense)."""
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
