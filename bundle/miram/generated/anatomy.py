"""The geometry of a film: the breast's outline, the nipple, the pectoral muscle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from miram.generated.noise import enlarge


@dataclass(frozen=True)
class Anatomy:
    """
    The geometry of one film, with the chest wall at the left edge.

    Args:
        depth: (H, W) float32, distance to the skin in pixels, negative in the air; the film's edge is not skin.
        nipple: its row and column.
        muscle: (H, W) float32, distance to the muscle's edge in pixels, positive in the muscle; None in a CC view.
        middle: row and column of the centre of the gland's base at the chest wall.
    """

    depth: np.ndarray
    nipple: tuple[float, float]
    muscle: np.ndarray | None
    middle: tuple[float, float]

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
