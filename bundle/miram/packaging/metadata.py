"""A bundle's metadata.json: the repository's, with what the trained network says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from miram.engines.inference import TrainedClassifier


def make_metadata(base: Path, changes: Mapping[str, Any], trained: TrainedClassifier) -> dict[str, Any]:
    """
    Make a bundle's metadata.

    Args:
        base: the repository's metadata.json: versions, changelog, authors, references.
        changes: what the bundle says otherwise, by top-level or nested id.
        trained: gives the size of the image, the classes and the figures of its validation.
    """
    parser = ConfigParser(json.loads(base.read_text(encoding="utf-8")))
    for key, value in (changes | _of_classifier(trained)).items():
        parser[key] = value
    return parser.get()


def _of_classifier(trained: TrainedClassifier) -> dict[str, Any]:
    """The network's input and output, and the metrics of its best epoch."""
    encoder = trained.network.encoder
    validation = trained.provenance.get("validation", {})
    classes = ", ".join(trained.task.scored)
    changes: dict[str, Any] = {
        "network_data_format#inputs#image#num_channels": encoder.in_channels,
        "network_data_format#inputs#image#spatial_shape": list(encoder.img_size),
        "network_data_format#outputs#pred#num_channels": trained.network.num_classes,
        "network_data_format#outputs#pred#channel_def": {str(k): name for k, name in enumerate(trained.task.scored)},
        "pred_classes": f"{trained.task.name} ({trained.task.type}): probability of {classes}",
    }
    if validation:
        changes["eval_metrics"] = {f"validation {name}": round(value, 4) for name, value in validation.items()}
    return changes
