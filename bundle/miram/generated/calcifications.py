"""Microcalcifications whose pixels show their type and distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from miram.generated.drawing import draw_curves, power_law_field, winding_curves
from miram.generated.masses import Lesion, canvas_around


@dataclass(frozen=True)
class Grain:
    """The appearance of the grains of one calcification type; pairs are smallest and largest values."""

    count: tuple[int, int]  # grains in a lesion
    radius: tuple[float, float]  # in pixels
    level: tuple[float, float] = (0.3, 0.45)  # brightness
    long: tuple[float, float] = (1.0, 1.1)  # length over width
    irregular: float = 0.0  # standard deviation of the outline relative to the radius
    hollow: float = 0.0  # radius of the lucent centre relative to the grain's
    blur: float = 0.35  # softness of the outline, in pixels


def grain_of(calc_type: str) -> Grain:
    """The grains of a calcification type; VASCULAR and FINE_LINEAR_BRANCHING are lines with only a few grains."""
    grains = {
        "PUNCTATE": Grain((10, 22), (0.7, 1.0), (0.28, 0.4)),
        "AMORPHOUS": Grain((40, 80), (0.9, 1.8), (0.06, 0.14), blur=0.8),
        "PLEOMORPHIC": Grain((14, 32), (0.7, 2.6), (0.18, 0.5), (1.0, 2.6), irregular=0.35),
        "FINE_LINEAR_BRANCHING": Grain((3, 8), (0.6, 1.2), (0.2, 0.4), (1.0, 3.0), irregular=0.2),
        "ROUND_AND_REGULAR": Grain((4, 10), (2.0, 3.6)),
        "LUCENT_CENTER": Grain((2, 6), (3.0, 6.0), (0.25, 0.4), hollow=0.55),
        "EGGSHELL": Grain((1, 3), (7.0, 13.0), (0.22, 0.35), hollow=0.84),
        "COARSE": Grain((1, 4), (4.5, 9.0), (0.3, 0.5), (1.0, 1.6), irregular=0.25),
        "DYSTROPHIC": Grain((2, 4), (4.0, 8.0), (0.28, 0.45), (1.0, 2.2), irregular=0.4, hollow=0.35),
        "LARGE_RODLIKE": Grain((3, 8), (3.5, 6.0), (0.3, 0.45), (7.0, 11.0)),
        "SKIN": Grain((2, 6), (2.2, 3.2), (0.25, 0.4), hollow=0.5),
        "MILK_OF_CALCIUM": Grain((6, 12), (1.5, 2.5), (0.2, 0.35), (2.5, 4.0), blur=0.6),
        "VASCULAR": Grain((2, 6), (0.6, 1.0), (0.15, 0.3)),
    }
    return grains.get(calc_type, Grain((3, 7), (0.7, 1.4), (0.25, 0.4)))


def draw_calcification(
    types: Sequence[str],
    distributions: Sequence[str],
    radius: float,
    contrast: float,
    direction: float,
    rng: np.random.Generator,
) -> Lesion:
    """
    Draw calcifications on a faint cloud that compensates for their brightness, so that the mean is always `contrast`.

    `radius` is that of a disc of the mask's area, in pixels; `direction` points to the nipple, in radians from the
    columns' axis towards the rows'.
    """
    stretch = {"LINEAR": 3.0, "SEGMENTAL": 1.8}.get(distributions[0], 1.2)
    canvas = canvas_around(2.1 * radius)
    turned = canvas.angle - direction
    outline = radius / np.sqrt(np.cos(turned) ** 2 / stretch + np.sin(turned) ** 2 * stretch)
    outline = outline * (1 + 0.08 * np.cos(3 * canvas.angle + rng.uniform(0, 6)))
    mask = canvas.distance < outline
    picture = np.zeros(mask.shape, dtype=np.float32)
    axes = radius * np.array([np.sqrt(stretch), 1 / np.sqrt(stretch)]) * 0.85
    for calc_type in types:
        grain = grain_of(calc_type)
        count = max(1, int(rng.integers(grain.count[0], grain.count[1] + 1)) // len(types))
        places = canvas.side // 2 + _turn(_scatter(distributions, count, rng) * axes, direction)
        for place in places:
            _stamp(picture, place, grain, direction if calc_type == "LARGE_RODLIKE" else rng.uniform(0, np.pi), rng)
        picture += _lines(calc_type, places, direction, radius, mask.shape, rng)
    cloud = scipy.special.expit((outline - canvas.distance) / (0.12 * radius)) * np.clip(
        1 + 0.3 * power_law_field(mask.shape, 1.5, rng, coarsest=2 * radius), 0, 2
    )
    lift = max(contrast - float(picture[mask].mean()), -0.03) / float(cloud[mask].mean())
    return Lesion((picture + lift * cloud).astype(np.float32), mask)


def _scatter(distributions: Sequence[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """(K, 2) positions in a unit disc whose first axis points to the nipple."""
    spread = np.clip(0.42 * rng.standard_normal((count, 2)), -0.95, 0.95)
    even = np.sqrt(rng.random(count))[:, None] * _unit(rng.uniform(0, 2 * np.pi, count))
    line = np.stack([rng.uniform(-1, 1, count), 0.06 * rng.standard_normal(count)], axis=1)
    along = rng.uniform(-1, 1, count)
    wedge = np.stack([along, 0.75 * rng.uniform(-1, 1, count) * (1 - along) / 2], axis=1)
    known = {"REGIONAL": even, "DIFFUSELY_SCATTERED": even, "LINEAR": line, "SEGMENTAL": wedge}
    chosen = np.stack([known.get(name, spread) for name in distributions])
    return chosen[np.arange(count) % len(distributions), np.arange(count)]


def _unit(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _turn(places: np.ndarray, direction: float) -> np.ndarray:
    """Convert (along, across) relative to the direction to (row, column)."""
    along, across = places[:, 0], places[:, 1]
    return np.stack(
        [
            along * np.sin(direction) + across * np.cos(direction),
            along * np.cos(direction) - across * np.sin(direction),
        ],
        axis=1,
    )


def _stamp(picture: np.ndarray, place: np.ndarray, grain: Grain, angle: float, rng: np.random.Generator) -> None:
    """Add one grain to the picture, in place."""
    radius, long = rng.uniform(*grain.radius), rng.uniform(*grain.long)
    half = int(np.ceil(radius * max(1.0, np.sqrt(long)) * (1 + 2 * grain.irregular) + 3))
    corner = np.clip(np.floor(place).astype(int) - half, 0, np.array(picture.shape) - 2 * half - 1)
    row = np.arange(2 * half + 1)[:, None] + corner[0] - place[0]
    column = np.arange(2 * half + 1)[None, :] + corner[1] - place[1]
    along = (column * np.cos(angle) + row * np.sin(angle)) / np.sqrt(long)
    across = (row * np.cos(angle) - column * np.sin(angle)) * np.sqrt(long)
    distance, around = np.hypot(along, across), np.arctan2(across, along)
    wobble = sum(rng.standard_normal() * np.cos(order * around + rng.uniform(0, 6)) for order in (2, 3, 5))
    edge = radius * np.clip(1 + grain.irregular * 0.6 * wobble, 0.4, 2)
    shape = scipy.special.expit((edge - distance) / grain.blur)
    if grain.hollow:
        shape -= 0.8 * scipy.special.expit((grain.hollow * edge - distance) / grain.blur)
    window = picture[corner[0] : corner[0] + 2 * half + 1, corner[1] : corner[1] + 2 * half + 1]
    np.maximum(window, rng.uniform(*grain.level) * shape, out=window)


def _lines(
    calc_type: str,
    places: np.ndarray,
    direction: float,
    radius: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Branching casts of ducts, or the two walls of a calcified vessel."""
    if calc_type == "FINE_LINEAR_BRANCHING":
        starts = np.repeat(places, 3, axis=0)
        heading = direction + 0.45 * rng.standard_normal(len(starts))
        lengths = rng.uniform(0.15, 0.45, len(starts)) * radius
        points, weights = winding_curves(starts, heading, lengths, rng.uniform(0.25, 0.5, len(starts)), 0.5, rng)
        return draw_curves(shape, points, weights * _broken(len(points), rng), 0.7)
    if calc_type == "VASCULAR":
        start = np.array(shape) / 2 + _turn(np.array([[-0.95 * radius, 0.2 * radius]]), direction)
        points, weights = winding_curves(start, np.array([direction]), np.array([1.9 * radius]), np.ones(1), 0.7, rng)
        wall = _turn(np.array([[0.0, 2.2]]), direction)
        walls = [
            draw_curves(shape, points + side * wall, 0.3 * weights * _broken(len(points), rng), 0.8) for side in (-1, 1)
        ]
        return walls[0] + walls[1]
    return np.zeros(shape, dtype=np.float32)


def _broken(count: int, rng: np.random.Generator) -> np.ndarray:
    """(K,) factors 0..1 that break a line into pieces of a few pixels."""
    pieces = np.repeat(rng.random(count // 8 + 1), 8)[:count]
    return np.clip(1.6 * pieces, 0, 1)
