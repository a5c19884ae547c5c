"""The pictures of an evaluation of detection: the curve, and views with hits, misses and false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miram.inference.views import View
from miram.metrics.detection import CENTER, ImageFindings, threshold_at
from miram.readers.formats import read_image
from miram.visualize.detections import Panel, plot_froc, plot_views
from miram.visualize.html_report import Picture

_LEGEND = "Green: lesions. Red: candidates above the threshold at {rate:g} false alarms an image, with their scores."


def draw_pictures(
    output_dir: Path,
    views: Sequence[View],
    images: Sequence[ImageFindings],
    metrics: Mapping[str, Any],
    count: int = 12,
    rate: float = 2.0,
) -> list[Picture]:
    """
    Draw froc.png, hits.png, misses.png and false_alarms.png; one without a view is not drawn.

    Args:
        metrics: what :func:`miram.metrics.detection.evaluate_detection` returns.
        rate: of false alarms, at which lesions are called hit or missed.
    """
    pictures = [_draw_curve(output_dir, metrics)] if any(image.lesions for image in images) else []
    limit = threshold_at(images, rate)
    best = [image.best_hits(CENTER) for image in images]
    alarms = np.array([image.false_alarms(CENTER).max(initial=-np.inf) for image in images])
    # the surest hits first; lesions that are farthest from being found; the highest false alarms
    hit = np.array([scores[scores > limit].max(initial=-np.inf) for scores in best])
    missed = np.array([-scores[scores <= limit].min(initial=np.inf) for scores in best])
    chosen = {
        "hits": (hit, "Lesions found, the highest score first"),
        "misses": (missed, "Lesions missed, the lowest score first"),
        "false_alarms": (np.where(alarms > limit, alarms, -np.inf), "False alarms, the highest first"),
    }
    for name, (order, caption) in chosen.items():
        numbers = [index for index in np.argsort(-order, kind="stable") if order[index] > -np.inf][:count]
        if numbers:
            panels = [_panel(views[index], images[index], limit) for index in numbers]
            path, note = output_dir / f"{name}.png", _LEGEND.format(rate=rate)
            plot_views(panels, path, caption, note)
            pictures.append(Picture(path, f"{caption}. {note}", wide=True))
    return pictures


def _draw_curve(output_dir: Path, metrics: Mapping[str, Any]) -> Picture:
    path, caption = output_dir / "froc.png", "FROC: sensitivity per box, centre in the box; bars: intervals"
    found = metrics["sensitivity"][CENTER]["box"]
    rates = [rate for rate in found if rate != "mean"]
    table = np.array([[found[rate][key] for key in ("value", "low", "high")] for rate in rates], float)  # None is NaN
    points = {float(rate): (value, low, high) for rate, (value, low, high) in zip(rates, table.tolist(), strict=True)}
    curve = metrics["curve"]
    plot_froc(curve["false_alarms_per_image"], curve["sensitivity"], points, path, "FROC, per box")
    return Picture(path, caption)


def _panel(view: View, image: ImageFindings, limit: float) -> Panel:
    shown = image.scores > limit
    return Panel(
        read_image(view.path).pixels,
        image.lesion_boxes,
        image.boxes[shown],
        image.scores[shown],
        Path(view.source).with_suffix("").as_posix()[-34:],
    )
