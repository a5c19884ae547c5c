"""Using a trained classifier: loading, checks, test-time flips, and probabilities from its logits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.engines import Evaluator
from monai.inferers import Inferer
from monai.transforms import Compose, MapTransform, Resized
from torch import nn

from miram.data.datalist import SPLITS, Item, load_split, read_datalist, remedy_of_empty
from miram.data.tasks import Task, applicable_items, find_task, unknown_count
from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.files import file_sha256
from miram.inference.calibrated import Calibration, calibration_of_model, load_calibration
from miram.networks.classifier import ViTClassifier
from miram.transforms.augment import symmetries
from miram.transforms.windows import center_windows, load_windows, scale_windows
from miram.weights.classifier import load_classifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedClassifier:
    """The content of a `model.pt`."""

    path: Path  # the file
    sha256: str  # of the file
    network: ViTClassifier  # with the trained weights, in evaluation mode
    task: Task  # what it predicts
    preprocessing: dict[str, Any]  # how pixels become its input
    calibration: Calibration  # the calibration stored in the file
    provenance: dict[str, Any]  # where the weights come from


def load_trained(
    path: str | os.PathLike[str], task: str | None = None, make: Callable[..., nn.Module] = ViTClassifier
) -> TrainedClassifier:
    """
    Load a classifier.

    Args:
        path: the `model.pt` of a fine-tuning run.
        task: the task it must be for; None accepts any.
        make: builds the network from the file's "network_def".

    Raises:
        InputError: if there is no such file, or it is damaged or for another task.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"there is no trained model {path}: train one first (python -m monai.bundle run training "
            f"--config_file configs/finetune.yaml --task {task or 'pathology'}), or give --model, or the --task of one"
        )
    network, content = load_classifier(path, make)
    own = content["task"]
    if task is not None and own["name"] != task:
        raise InputError(f"{path} is a model for the task {own['name']!r}, not {task!r}; give --task {own['name']}")
    digest = file_sha256(path)
    return TrainedClassifier(
        path=path,
        sha256=digest,
        network=network.eval(),
        task=Task(own["name"], own["type"], own["classes"]),
        preprocessing=dict(content["preprocessing"]),
        calibration=calibration_of_model(content, digest),
        provenance=dict(content.get("provenance") or {}),
    )


def items_of_task(
    trained: TrainedClassifier, dataset_dir: str | os.PathLike[str], split: str, required: bool = True
) -> list[Item]:
    """
    The items of a split to which a model's task applies, after a check that the classes are the same.

    Args:
        split: "training", "validation" or "test".
        required: whether it is an error if none has a known label.

    Returns:
        items with absolute paths, including those without a known label.

    Raises:
        InputError: if the folder lacks the task, its classes differ, or no label of the split is known.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    datalist, task = read_datalist(dataset_dir), trained.task
    own = find_task(datalist, task.name)
    if own != task:
        raise InputError(
            f"the classes of {task.name!r} are {', '.join(own.classes)} ({own.type}) in {dataset_dir}, but "
            f"{', '.join(task.classes)} ({task.type}) in the model; give the data that the model was trained for"
        )
    if required and not datalist[split]:
        raise InputError(
            f"the {split} split of {dataset_dir} is empty: there is nothing to evaluate on; {remedy_of_empty(split)}. "
            "Or use --split validation, whose figures are too optimistic"
        )
    items = applicable_items(load_split(dataset_dir, split, required), task)
    unknown = unknown_count(items, task)
    if required and unknown == len(items):
        raise InputError(f"none of the {len(items)} {split} images has a known label of {task.name!r}")
    logger.info("%s: %d images of the task, %d of them without a known label", split, len(items), unknown)
    return items


def run_name(task: str, mode: str) -> str:
    """The name for folders of a model's evaluation and inference; the mode is part of it unless it is "finetune"."""
    return task if mode == "finetune" else f"{mode}_{task}"


def run_unless_empty(evaluator: Evaluator, items: Sequence[Item]) -> None:
    """Run an evaluator, unless its split has no items."""
    if items:
        evaluator.run()


def find_calibration(trained: TrainedClassifier, path: str | os.PathLike[str] | None) -> Calibration:
    """The calibration that an evaluation of this model wrote to `path`, otherwise the model's own."""
    found = load_calibration(path, trained.sha256) if path else None
    calibration = found or trained.calibration
    logger.info("probabilities: %s", calibration.describe())
    return calibration


@dataclass(eq=False)
class FlipInferer(Inferer):
    """Average the logits of an image, its mirror images and, if it is a square, its quarter turns."""

    flips: bool = True  # False uses the plain network
    precision: str = "float32"  # in which the network computes, see `engines.steps.autocast`; logits are float32

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Map images (B, C, *spatial) to logits (B, K)."""
        network = in_precision(network, self.precision)
        versions = symmetries(inputs) if self.flips else [inputs]
        logits = [network(version, *args, **kwargs) for version in versions]
        return torch.stack(logits).mean(dim=0)


def crop_to_input(load: Callable[[Any], Any], preprocessing: Mapping[str, Any]) -> Compose:
    """
    The transforms from a crop's file to the network's input, shared by all uses of a trained classifier.

    Args:
        load: a MONAI transform that loads "image" as (C, *spatial), with the stored 16 bits.
    """
    field_of_view = preprocessing["field_of_view"]
    return Compose(
        [
            *load_windows("image", load, field_of_view),
            *scale_windows("image", preprocessing),
            *center_windows("image", field_of_view),
            Resized("image", preprocessing["image_size"], mode="area"),  # as training reduces its crops
        ]
    )


class Probabilitiesd(MapTransform):
    """Turn a sample's logits (K,) into probabilities (K,), with the calibration's state at the time of the call."""

    def __init__(self, keys: Hashable | Sequence[Hashable], task: Task, calibration: Calibration) -> None:
        super().__init__(keys)
        self.task = task
        self.calibration = calibration

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Replace the logits."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.calibration.probabilities(result[key][None], self.task)[0]
        return result
