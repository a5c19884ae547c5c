"""What a segmentation's fine-tuning adds to the steps: its batches, and the validation metrics."""

from __future__ import annotations

from typing import Any

import torch
from ignite.metrics import Average, Metric
from monai.engines import SupervisedEvaluator
from monai.metrics.meandice import compute_dice

from miram.engines.classification import PrepareClassificationBatch
from miram.engines.steps import ValidationStep
from miram.losses.reconstruction import downsample


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


def segmentation_metrics(device: torch.device) -> dict[str, Metric]:
    """The validation metrics: "val_dice", the mean over images with a lesion, and "val_loss", the mean over all."""
    return {
        "val_dice": Average(lambda output: output["dice"], device=device)[0],
        "val_loss": Average(lambda output: output["per_image"], device=device)[0],
    }
