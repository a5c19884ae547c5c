"""Masses whose pixels show their margins and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from miram.generated.drawing import draw_curves, power_law_field, winding_curves


@dataclass(frozen=True)
class Lesion:
    """A lesion to add to a film."""

    # (S, S) float32, S odd; what the lesion adds to the film, with the requested mean within its mask
    contrast: np.ndarray
    mask: np.ndarray  # (S, S) bool, the outline a reader would draw


@dataclass(frozen=True)
class _Canvas:
    """Polar coordinates around the centre of a square with an odd side."""

    side: int
    distance: np.ndarray
    angle: np.ndarray


def canvas_around(reach: float) -> _Canvas:
    """A square canvas that extends `reach` pixels from its centre."""
    half = int(np.ceil(reach))
    row, column = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    return _Canvas(2 * half + 1, np.hypot(row, column), np.arctan2(row, column))


def draw_mass(
    shapes: Sequence[str], margins: Sequence[str], radius: float, contrast: float, rng: np.random.Generator
) -> Lesion:
    """
    Draw a mass.

    Each margin has its own sector of the edge. The mean contrast within the mask and the mask's area do not depend on
    shape and margins, which show only in the edge's fine detail. `radius` is that of a disc of the mask's area,
    in pixels.
    """
    canvas = canvas_around(2.3 * radius)
    cloud = power_law_field(canvas.distance.shape, 1.8, rng, coarsest=2 * radius)
    edge = _edge(shapes, canvas.angle, radius, rng)
    which = sector_of(canvas.angle, len(margins), rng.random())
    lobes = _lobes(canvas.angle, rng) * np.isin(
        which, [k for k, atom in enumerate(margins) if atom == "MICROLOBULATED"]
    )
    inside = edge * (1 + lobes) - canvas.distance
    softness, roughness = _edge_quality(margins, which, radius)
    body = scipy.special.expit((inside + roughness * cloud) / softness)
    body *= (0.55 + 0.7 * np.sqrt(np.clip(inside / radius, 0, 1))) * (1 + 0.10 * cloud)  # thickest in the middle
    body = _vary_by_shape(body, shapes, canvas, edge, cloud)
    if "OBSCURED" in margins:
        body = _obscure(body, inside, canvas, cloud, radius, rng)
    spicules = _spicules(shapes, margins, which, canvas, edge, rng)
    mask = inside > -1.5
    picture = body + spicules
    return Lesion((picture * (contrast / picture[mask].mean())).astype(np.float32), mask)


def _edge(shapes: Sequence[str], angle: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """The distance of the outline from the centre in each direction; the area is that of a disc with `radius`."""
    turn = rng.uniform(0, 2 * np.pi)
    first = shapes[0]
    long = {"ROUND": 1.05, "LYMPH_NODE": 1.4, "ASYMMETRIC_BREAST_TISSUE": 1.4}.get(first, rng.uniform(1.3, 1.6))
    edge = 1 / np.sqrt(np.cos(angle - turn) ** 2 / long + np.sin(angle - turn) ** 2 * long)
    if "LOBULATED" in shapes:
        edge = edge * (1 + 0.12 * np.cos(int(rng.integers(3, 5)) * angle + turn) + 0.06 * np.cos(2 * angle - 3 * turn))
    if "IRREGULAR" in shapes or "FOCAL_ASYMMETRIC_DENSITY" in shapes:
        for order in range(2, 9):
            edge = edge * (1 + 0.16 / np.sqrt(order) * rng.standard_normal() * np.cos(order * angle + turn * order**2))
    return radius * np.clip(edge, 0.5, 1.7)


def sector_of(angle: np.ndarray, count: int, turn: float) -> np.ndarray:
    """The sector (0 to `count` - 1) of each direction (radians), of `count` equal ones; `turn` (0..1) rotates them."""
    part = (angle / (2 * np.pi) + turn) % 1
    return np.minimum((part * count).astype(int), count - 1)  # just below 0 the remainder is rounded to 1


def _lobes(angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Many small lobes with cusps between them, relative to the radius."""
    count, phase = int(rng.integers(10, 17)), rng.uniform(0, np.pi)
    uneven = 0.9 * np.sin(2 * angle + 3 * phase) + 0.6 * np.sin(3 * angle + 5 * phase)
    height = rng.uniform(0.09, 0.13) * (1 + 0.4 * np.sin(angle + 7 * phase))
    return height * (np.abs(np.sin(count * angle / 2 + uneven + phase)) - 0.64)


def _edge_quality(margins: Sequence[str], which: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """How soft the edge is, and how far clouds displace it, in pixels, in each sector."""
    quality = {
        "CIRCUMSCRIBED": (1.0, 0.0),
        "MICROLOBULATED": (0.8, 0.0),
        "OBSCURED": (1.2, 0.0),
        "ILL_DEFINED": (0.18 * radius, 0.10 * radius),
        "SPICULATED": (0.05 * radius, 0.05 * radius),
    }
    table = np.array([quality.get(margin, (0.06 * radius, 0.03 * radius)) for margin in margins], dtype=np.float32)
    return table[which, 0], table[which, 1]


def _vary_by_shape(
    body: np.ndarray, shapes: Sequence[str], canvas: _Canvas, edge: np.ndarray, cloud: np.ndarray
) -> np.ndarray:
    """A lymph node has a fatty hilum, asymmetries are patchy, a distortion has almost no body."""
    if "LYMPH_NODE" in shapes:
        hilum = np.hypot(canvas.distance * np.cos(canvas.angle) - 0.45 * edge, canvas.distance * np.sin(canvas.angle))
        body = body * (1 - 0.9 * np.exp(-((hilum / (0.3 * edge)) ** 2)))
    if "FOCAL_ASYMMETRIC_DENSITY" in shapes or "ASYMMETRIC_BREAST_TISSUE" in shapes:
        body = body * np.clip(0.75 + 0.35 * cloud, 0.1, 2)
    if "ARCHITECTURAL_DISTORTION" in shapes:
        body = body * (0.5 if len(shapes) == 1 else 0.8)
    return body


def _obscure(
    body: np.ndarray, inside: np.ndarray, canvas: _Canvas, cloud: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Hide about half of the edge under overlapping tissue that reaches beyond it."""
    along = canvas.distance * np.cos(canvas.angle - rng.uniform(0, 2 * np.pi))
    hidden = scipy.special.expit((along + 0.1 * radius + 0.2 * radius * cloud) / (0.15 * radius))
    tissue = np.clip(0.7 + 0.4 * cloud, 0, 2) * scipy.special.expit((inside + 0.55 * radius) / (0.2 * radius))
    return body * (1 - hidden) + hidden * (0.5 * tissue + 0.45 * body)


def _spicules(
    shapes: Sequence[str],
    margins: Sequence[str],
    which: np.ndarray,
    canvas: _Canvas,
    edge: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Thin lines that radiate from a spiculated edge, or from the centre of a distortion."""
    distorted = "ARCHITECTURAL_DISTORTION" in shapes
    if not distorted and "SPICULATED" not in margins:
        return np.zeros(canvas.distance.shape, dtype=np.float32)
    middle = canvas.side // 2
    count = int(rng.integers(16, 27))
    heading = 2 * np.pi * (np.arange(count) + rng.uniform(-1, 1, count)) / count
    probe = middle + np.rint(0.3 * middle * np.stack([np.sin(heading), np.cos(heading)], axis=1)).astype(int)
    sectors = [k for k, margin in enumerate(margins) if margin == "SPICULATED"]
    kept = np.isin(which[tuple(probe.T)], sectors)
    if distorted:  # fewer lines, in uneven bundles
        kept |= np.sin(3 * heading + rng.uniform(0, 6)) + rng.standard_normal(count) > 0.2
    heading, reach = heading[kept], edge[tuple(probe[kept].T)]
    begin = (0.15 if distorted else 0.7) * reach
    start = middle + begin[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    lengths = reach * rng.uniform(0.6, 1.5, len(reach)) + (0.5 * reach if distorted else 0)
    brightness = rng.uniform(0.45, 1.0, len(reach)) * (0.5 if distorted else 1.0)
    points, weights = winding_curves(start, heading, lengths, brightness, 0.4, rng)
    return draw_curves(canvas.distance.shape, points, weights, 0.9 + 0.02 * float(edge.mean()))
