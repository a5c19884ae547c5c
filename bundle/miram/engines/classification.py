"""What fine-tuning adds to the steps, for a classification and a segmentation: batches, outputs, validation metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Average, Metric
from monai.engines import SupervisedEvaluator
from monai.engines.utils import PrepareBatch
from monai.metrics.meandice import compute_dice

from miram.data.tasks import Task
from miram.engines.distributed import gather_objects
from miram.engines.steps import ValidationStep
from miram.errors import InputError
from miram.losses.classification import ClassificationLoss
from miram.losses.reconstruction import downsample
from miram.metrics.classification import average_precision, mean_over_classes, roc_auc


def probabilities(logits: torch.Tensor, task: Task) -> torch.Tensor:
    """
    Turn logits into probabilities, in float32. For a calibrated network, use :meth:`Calibration.probabilities
    <miram.inference.calibrated.Calibration.probabilities>`.

    Args:
        logits: (B, K).
        task: a multi-class task uses a softmax over its classes; the other types use one sigmoid per class.

    Returns:
        (B, K), in the order of `task.scored`.
    """
    logits = logits.float()
    return logits.softmax(dim=1) if task.type == "multiclass" else logits.sigmoid()


class PrepareClassificationBatch(PrepareBatch):
    """
    Move a batch to the device and downsample its crops to the encoder's size there, as pretraining does.

    Args:
        image_size: size of the encoder's image in pixels, one per spatial dimension.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        self.image_size = tuple(image_size)

    def __call__(  # type: ignore[override]
        self,
        batchdata: dict[str, torch.Tensor],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[()], dict[str, Any]]:
        """
        Args:
            batchdata: "image" (B, C, *spatial), of the encoder's size or larger, and "label" (B, K), which may be
                missing.
            device: where the network runs.
            non_blocking: whether copies from pinned memory may overlap with computation.

        Returns:
            the image (B, C, *image_size), the label, and no further arguments for the network.
        """
        crop = batchdata["image"].to(device=device, dtype=torch.float32, non_blocking=non_blocking)
        label = batchdata.get("label")
        if label is not None:
            label = label.to(device=device, dtype=torch.float32, non_blocking=non_blocking)
        return downsample(crop, self.image_size), label, (), {}


class ClassificationStep(ValidationStep):
    """
    One iteration of validation: forward without gradients.

    Args:
        task: the task.
        loss_function: the training loss, computed separately for each image.
        precision: "float32", "bfloat16" or "float16".
    """

    def __init__(self, task: Task, loss_function: ClassificationLoss, precision: str = "float32") -> None:
        super().__init__(loss_function, precision)
        self.task = task

    def __call__(self, engine: SupervisedEvaluator, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """
        Validate on a batch.

        Returns:
            "pred", the probabilities (B, K); "label" (B, K); "per_image", the losses (B, 1).
        """
        logits, label, per_image = self.forward(engine, batch)
        return {"pred": probabilities(logits, self.task), "label": label, "per_image": per_image}


class MacroScore(Metric):
    """
    The mean of a score over the classes, computed from the images of all processes together.

    The processes' shares may differ in size; no image counts twice. A class whose score is undefined (all images or
    none are positive) is left out.

    Args:
        score: takes labels (n,), NaN where unknown, and scores (n,); returns NaN where the score is undefined.
        output_transform: turns the engine's output into probabilities (B, K) and labels (B, K).
    """

    def __init__(
        self,
        score: Callable[[np.ndarray, np.ndarray], float],
        output_transform: Callable[[Any], Any] = lambda output: (output["pred"], output["label"]),
    ) -> None:
        self.score = score
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        """Forget all images."""
        self.batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Store a batch, without waiting for the device."""
        self.batches.append((output[0].detach(), output[1].detach()))

    def compute(self) -> float:
        """
        The mean over the classes.

        Raises:
            NotComputableError: if there were no images.
        """
        parts = [np.concatenate([part.cpu().numpy() for part in column]) for column in zip(*self.batches, strict=True)]
        gathered = [part for part in gather_objects(parts) if part]
        if not gathered:
            raise NotComputableError("there are no validation images")
        pred, label = (np.concatenate(column) for column in zip(*gathered, strict=True))
        return mean_over_classes([self.score(label[:, k], pred[:, k]) for k in range(label.shape[1])])


def classification_metrics(device: torch.device, key_metric: str = "val_auc") -> dict[str, Metric]:
    """
    The validation metrics: "val_auc" and "val_ap", means over classes, and "val_loss", the mean over images.

    Args:
        device: where the loss is summed.
        key_metric: the one to put first. MONAI chooses the best epoch by the first metric.

    Raises:
        InputError: if there is no such metric.
    """
    metrics = {
        "val_auc": MacroScore(roc_auc),
        "val_ap": MacroScore(average_precision),
        "val_loss": Average(lambda output: output["per_image"], device=device)[0],
    }
    return _first(key_metric, metrics)


def _first(key_metric: str, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The same metrics, with that one in front; an InputError if it is not there."""
    if key_metric not in metrics:
        raise InputError(f"key_metric is {key_metric!r}; give one of {', '.join(metrics)}")
    return {key_metric: metrics[key_metric], **{name: metrics[name] for name in metrics if name != key_metric}}


class PrepareSegmentationBatch(PrepareClassificationBatch):
    """
    Move a batch to the device and downsample images and masks to the encoder's size there.

    Args:
        image_size: size of the encoder's image in pixels, one per spatial dimension.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, Any]]:
        """
        See :class:`PrepareClassificationBatch`; "label" are masks (B, C, *spatial), 0 or 1.

        Returns:
            images and masks (B, C, *image_size), a pixel of the mask being 1 where half of its area is, and no further
            arguments for the network.
        """
        image, mask, _, _ = super().__call__(*args, **kwargs)
        assert mask is not None  # a segmentation is trained and validated on images with masks
        return image, (downsample(mask, self.image_size) >= 0.5).float(), (), {}


class SegmentationStep(ValidationStep):
    """One iteration of validation: forward without gradients; see :class:`miram.engines.steps.ValidationStep`."""

    def __call__(self, engine: SupervisedEvaluator, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """
        Validate on a batch.

        Returns:
            "per_image", the losses (B, 1); "dice" (L, 1), of the L images with a lesion, at a probability of 0.5.
        """
        logits, mask, per_image = self.forward(engine, batch)
        dice = compute_dice((logits > 0).float(), mask, ignore_empty=True)  # NaN without a lesion
        return {"per_image": per_image, "dice": dice[~dice.isnan()][:, None]}


def segmentation_metrics(device: torch.device, key_metric: str = "val_loss") -> dict[str, Metric]:
    """
    The validation metrics: "val_dice", the mean over images with a lesion, and "val_loss", the mean over all.

    Args:
        device: where both are summed.
        key_metric: the one to put first.

    Raises:
        InputError: if there is no such metric.
    """
    metrics = {
        "val_dice": Average(lambda output: output["dice"], device=device)[0],
        "val_loss": Average(lambda output: output["per_image"], device=device)[0],
    }
    return _first(key_metric, metrics)
