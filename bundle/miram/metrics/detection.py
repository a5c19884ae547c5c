"""
How well candidates find lesions: FROC and average precision, with intervals over patients.

FROC (Chakraborty 1989): at a threshold of the candidates' scores, the share of the lesions that are hit, against the
candidates per image that hit none. Several candidates on one lesion are one hit, and none of them is a false alarm
(as in CAMELYON 16, whose evaluation MONAI has). Average precision is that of COCO, where the second is a false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from monai.metrics.froc import compute_froc_curve_data

from miram.metrics.bootstrap import Bootstrap, Support, estimate_all
from miram.metrics.weighted import curve_counts, ratio

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5)
CENTER = "center"  # the criterion of a hit: the candidate's centre is in the lesion's box; others are an overlap


@dataclass(frozen=True)
class ImageFindings:
    """An image's candidates and lesions. Boxes are (x0, y0, x1, y1)."""

    patient: str  # whose image it is
    boxes: np.ndarray  # (N, 4) of the candidates
    scores: np.ndarray  # (N,) of the candidates, higher = more likely a lesion
    lesion_boxes: np.ndarray  # (M, 4)
    lesions: tuple[str, ...]  # the name of each lesion, the same in all of its views

    def hits(self, criterion: str | float) -> np.ndarray:
        """Which candidates hit which lesions, (M, N) bool: "center", or a smallest intersection over union."""
        if len(self.boxes) == 0 or len(self.lesion_boxes) == 0:
            return np.zeros((len(self.lesion_boxes), len(self.boxes)), bool)
        if criterion != CENTER:
            return _overlaps(self.lesion_boxes, self.boxes) >= float(criterion)
        centers = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        low, high = self.lesion_boxes[:, None, :2], self.lesion_boxes[:, None, 2:]
        return ((centers >= low) & (centers <= high)).all(axis=2)

    def best_hits(self, criterion: str | float) -> np.ndarray:
        """The highest score of a candidate that hits each lesion, (M,); minus infinity where none does."""
        return np.where(self.hits(criterion), self.scores, -np.inf).max(axis=1, initial=-np.inf)

    def false_alarms(self, criterion: str | float) -> np.ndarray:
        """The scores of the candidates that hit no lesion."""
        return self.scores[~self.hits(criterion).any(axis=0)]


def evaluate_detection(
    images: Sequence[ImageFindings],
    bootstrap: Bootstrap,
    rates: Sequence[float] = RATES,
    overlaps: Sequence[float] = OVERLAPS,
) -> dict[str, Any]:
    """
    Sensitivity at rates of false alarms, and average precision at overlaps.

    Args:
        images: all that were searched, those without a lesion or without a candidate too.
        rates: false alarms per image.
        overlaps: intersections over union at which a candidate hits.

    Returns:
        ready for JSON. "sensitivity": {criterion: {"box" or "lesion": {rate or "mean": E}}}, where E is
        :class:`miram.metrics.bootstrap.Estimate` as a dictionary; the criterion is "center" or an overlap; a "box" is a
        lesion in one view, and a "lesion" is hit if it is in any of its views; "mean" is over the rates.
        "average_precision": {overlap: E}. "curve": FROC by centre, per box. "counts", "bootstrap".
    """
    criteria: list[str | float] = [CENTER, *overlaps]
    return {
        "sensitivity": {str(one): _sensitivities(images, one, rates, bootstrap) for one in criteria},
        "average_precision": {str(one): _average_precision(images, one, bootstrap) for one in overlaps},
        "curve": froc_curve(images),
        "counts": _counts(images),
        "bootstrap": {**asdict(bootstrap), "unit": "patient"},
    }


def froc_score(images: Sequence[ImageFindings]) -> float:
    """The mean sensitivity per lesion at `RATES` of false alarms per image, centre in the box; NaN without a lesion."""
    found = _sensitivities(images, CENTER, RATES, Bootstrap(n_resamples=1))["lesion"]["mean"]["value"]
    return float("nan") if found is None else float(found)


def froc_curve(images: Sequence[ImageFindings]) -> dict[str, list[float]]:
    """False alarms per image and sensitivity per box (hit by centre) at all thresholds, the highest threshold first."""
    best = np.concatenate([image.best_hits(CENTER) for image in images])
    alarms = np.concatenate([image.false_alarms(CENTER) for image in images])
    lowest = np.array([-1.0])  # MONAI leaves the lowest threshold out: with this one below all, none is lost
    rates, sensitivity = compute_froc_curve_data(
        np.concatenate([alarms, lowest]), best[np.isfinite(best)], max(len(best), 1), len(images)
    )
    return {"false_alarms_per_image": rates[::-1].tolist(), "sensitivity": sensitivity[::-1].tolist()}


def threshold_at(images: Sequence[ImageFindings], rate: float) -> float:
    """The score above which there are at most `rate` false alarms per image, hits by centre."""
    alarms = np.sort(np.concatenate([image.false_alarms(CENTER) for image in images]))[::-1]
    allowed = int(rate * len(images) + 1e-9)
    return float(alarms[allowed]) if allowed < len(alarms) else -np.inf


def _sensitivities(
    images: Sequence[ImageFindings], criterion: str | float, rates: Sequence[float], bootstrap: Bootstrap
) -> dict[str, Any]:
    best = [image.best_hits(criterion) for image in images]
    patients = np.array([image.patient for image in images])
    of_boxes = np.repeat(patients, [len(scores) for scores in best])
    scores = np.concatenate(best)
    names = np.array([f"{image.patient}\0{name}" for image in images for name in image.lesions], dtype=object)
    _, first, codes = np.unique(names, return_index=True, return_inverse=True)
    of_lesions = np.full(len(first), -np.inf)
    np.maximum.at(of_lesions, codes, scores)
    false = [image.false_alarms(criterion) for image in images]
    alarms = _Alarms(np.concatenate(false), np.repeat(patients, [len(one) for one in false]), patients)
    return {
        "box": _at_rates(scores, of_boxes, alarms, rates, bootstrap),
        "lesion": _at_rates(of_lesions, of_boxes[first], alarms, rates, bootstrap),
    }


@dataclass(frozen=True)
class _Alarms:
    """The false alarms' scores and patients, and the patient of each image."""

    scores: np.ndarray
    patients: np.ndarray
    images: np.ndarray


def _at_rates(
    best: np.ndarray, patients: np.ndarray, alarms: _Alarms, rates: Sequence[float], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The sensitivity at each rate and their mean; `best` and `patients` are of the lesions."""
    order = np.argsort(-alarms.scores, kind="stable")
    limits = np.append(alarms.scores[order], -np.inf)  # with k alarms allowed, the threshold is above the next one
    everybody = np.concatenate([alarms.images, patients, alarms.patients[order]])
    ends = np.cumsum([len(alarms.images), len(patients)])

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        of_images, of_lesions, of_alarms = np.split(weights, ends, axis=1)
        rising, number = np.cumsum(of_alarms, axis=1), of_images.sum(axis=1, keepdims=True)
        found = {}
        for rate in rates:
            limit = limits[(rising <= rate * number + 1e-9).sum(axis=1)]
            hit = (of_lesions * (best > limit[:, None])).sum(axis=1)
            found[f"{rate:g}"] = ratio(hit, of_lesions.sum(axis=1))
        return {**found, "mean": np.mean(list(found.values()), axis=0)}

    return _estimates(statistics, everybody, patients, len(best), bootstrap)


def _average_precision(images: Sequence[ImageFindings], overlap: float, bootstrap: Bootstrap) -> dict[str, Any]:
    right = np.concatenate([_matched(image, overlap) for image in images])
    scores = np.concatenate([image.scores for image in images])
    of_candidates = np.repeat([image.patient for image in images], [len(image.scores) for image in images])
    patients = np.repeat([image.patient for image in images], [len(image.lesions) for image in images])

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        of_found, of_lesions = np.split(weights, [len(scores)], axis=1)
        positives, negatives = curve_counts(right, scores, of_found)
        precision = np.nan_to_num(ratio(positives, positives + negatives))
        gained = (np.diff(positives, axis=1, prepend=0) * precision).sum(axis=1)
        return {"ap": ratio(gained, of_lesions.sum(axis=1))}

    everybody = np.concatenate([of_candidates, patients])
    return dict(_estimates(statistics, everybody, patients, len(patients), bootstrap)["ap"])


def _matched(image: ImageFindings, overlap: float) -> np.ndarray:
    """1 for each candidate that is matched to a lesion of its own, the highest scores first (COCO); else 0."""
    if len(image.scores) == 0 or len(image.lesions) == 0:
        return np.zeros(len(image.scores))
    one = [np.zeros(len(image.scores), int)], [image.scores], [image.lesion_boxes], [np.zeros(len(image.lesions), int)]
    (found,) = matching_batch(_overlaps, [overlap], [image.boxes], *one, max_detections=len(image.scores))
    order = np.argsort(-image.scores, kind="mergesort")  # MONAI's
    matched = np.zeros(len(image.scores))
    matched[order] = found[0]["dtMatches"][0] > 0
    return matched


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (M, 4) and (N, 4) boxes, (M, N)."""
    return np.asarray(box_iou(boxes, others))


def _estimates(
    statistics: Any, everybody: np.ndarray, patients: np.ndarray, units: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Each statistic with its interval; `patients` are those of the lesions."""
    number = len(np.unique(patients))
    support = Support(units, number, {"patients with a lesion": number})
    found = estimate_all(statistics, everybody, support, bootstrap, (0, 1))
    return {name: asdict(value) for name, value in found.items()}


def _counts(images: Sequence[ImageFindings]) -> Mapping[str, int]:
    return {
        "images": len(images),
        "images without a lesion": sum(not image.lesions for image in images),
        "patients": len({image.patient for image in images}),
        "boxes": sum(len(image.lesions) for image in images),
        "lesions": len({(image.patient, name) for image in images for name in image.lesions}),
        "candidates": sum(len(image.scores) for image in images),
    }
