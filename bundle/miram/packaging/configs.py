"""A bundle's configs and metadata.json: our files, with the values of the trained network, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from miram.inference.classifying import TrainedClassifier


def make_config(
    folder: Path, names: Sequence[str], values: Mapping[str, Any], without: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Make a packaged config.

    Args:
        names: the files without suffix: a workflow, then overlays.
        values: values of ids, set last. Ids that the config does not have are ignored.
        without: top-level ids that a package does not need.

    Returns:
        the content, unresolved.
    """
    config = ConfigParser.load_config_files([folder / f"{name}.yaml" for name in names])
    config |= {key: value for key, value in values.items() if key in config}
    return run_in_one_section({key: value for key, value in config.items() if key not in without})


def run_in_one_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """Move `initialize` to the start of `run`: MONAI finds the bundle's code only after `run` starts."""
    moved = dict(config)
    if "run" in moved:
        moved["run"] = [*moved.pop("initialize", []), *moved["run"]]
    return moved


def to_json(content: Mapping[str, Any]) -> str:
    """JSON as in MONAI's configs: indented by four spaces, in the given order."""
    return json.dumps(content, indent=4) + "\n"


def make_metadata(base: Path, changes: Mapping[str, Any], trained: TrainedClassifier) -> dict[str, Any]:
    """
    Make a bundle's metadata.

    Args:
        base: the repository's metadata.json: versions, changelog, authors, references.
        changes: values of the bundle that differ, by top-level or nested id.
        trained: the network, with the image size, the classes, the provenance and the validation metrics.

    Returns:
        the content.
    """
    parser = ConfigParser(json.loads(base.read_text(encoding="utf-8")))
    for key, value in {**_of_network(trained), **changes}.items():
        parser[key] = value
    return parser.get()


def _of_network(trained: TrainedClassifier) -> dict[str, Any]:
    encoder, task = trained.network.encoder, trained.task
    changes: dict[str, Any] = {
        "network_data_format#inputs#image#num_channels": encoder.in_channels,
        "network_data_format#inputs#image#spatial_shape": list(encoder.img_size),
        "pred_classes": f"{task.name} ({task.type}): probability of {', '.join(task.scored)}",
        "data_source": _data_source(trained.provenance),
    }
    for stage in ("outputs", "post_processed_outputs"):
        pred = f"network_data_format#{stage}#pred"
        changes[f"{pred}#num_channels"] = len(task.scored)
        changes[f"{pred}#channel_def"] = {str(index): name for index, name in enumerate(task.scored)}
    validation = trained.provenance.get("validation")
    if validation:
        changes["eval_metrics"] = {f"{name} of the best epoch": round(value, 4) for name, value in validation.items()}
    return changes


def _data_source(provenance: Mapping[str, Any]) -> str:
    """The training data, as far as the weights' file says."""
    images = provenance.get("training_images")
    labelled = "an unknown number of" if images is None else images
    pretraining = (provenance.get("pretrained_provenance") or {}).get("dataset") or {}
    unlabelled = pretraining.get("source") or pretraining.get("name") or "not recorded, or none"
    return f"fine-tuned on {labelled} labelled images of whoever packaged it; pretraining data: {unlabelled}"
