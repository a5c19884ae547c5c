"""What pretraining adds to the steps: its batches with masks, and the validation metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from ignite.metrics import Average, Metric
from monai.engines.utils import PrepareBatch

from miram.errors import InputError
from miram.losses.baselines import baseline_per_image
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.networks.decoders.scale_decoder import ScaleDecoder
from miram.networks.miram import MIRAM


class PreparePretrainingBatch(PrepareBatch):
    """
    Move a batch to the device, downsample the crops to the encoder's size there, and draw the masks.

    Args:
        masking: e.g. :class:`miram.masking.RandomMasking`.
        image_size: size of the encoder's image in pixels, one per spatial dimension.
        num_tokens: number of patches of that image.
    """

    def __init__(self, masking: Callable[..., torch.Tensor], image_size: Sequence[int], num_tokens: int) -> None:
        self.masking = masking
        self.image_size = tuple(image_size)
        self.num_tokens = num_tokens

    def __call__(  # type: ignore[override]
        self,
        batchdata: dict[str, torch.Tensor],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor], dict[str, Any]]:
        """
        Args:
            batchdata: "label" (B, C, *spatial) at the largest scale's size, "index" (B,) and "epoch" (B,).
            device: where the network runs.
            non_blocking: whether copies from pinned memory may overlap with computation.

        Returns:
            the image (B, C, *image_size), the label, (keep,) for the network, and no keyword arguments. Where the
            masking shows each image more than once, image and label are repeated.
        """
        label = batchdata["label"].to(device=device, dtype=torch.float32, non_blocking=non_blocking)
        image = downsample(label, self.image_size)
        # the epoch is the same for the whole batch and is on the CPU: reading it does not wait for the device
        keep = self.masking(int(batchdata["epoch"][0]), batchdata["index"], self.num_tokens, device)
        views = len(keep) // len(label)
        if views > 1:
            image, label = (pixels.repeat(views, *[1] * (pixels.ndim - 1)) for pixels in (image, label))
        return image, label, (keep,), {}


class PrepareTwoViews(PrepareBatch):
    """
    Move a batch to the device and make two views of each crop there, at the encoder's size.

    Args:
        view: e.g. :class:`miram.transforms.augment.RandomView`.
        image_size: size of the encoder's image in pixels, one per spatial dimension.
    """

    def __init__(self, view: Callable[..., torch.Tensor], image_size: Sequence[int]) -> None:
        self.view = view
        self.image_size = tuple(image_size)

    def __call__(  # type: ignore[override]
        self,
        batchdata: dict[str, torch.Tensor],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor], dict[str, Any]]:
        """
        Args:
            batchdata: "label" (B, C, *spatial), "index" (B,) and "epoch" (B,).
            device: where the network runs.
            non_blocking: whether copies from pinned memory may overlap with computation.

        Returns:
            a view (B, C, *image_size), the label, (another view,), and no keyword arguments.

        Raises:
            InputError: if the batch is a single image, for which there are no correlations over the batch.
        """
        if len(batchdata["label"]) < 2:
            raise InputError(
                "two views are compared over the images of a batch, and the last batch of this split has only one; "
                "choose another batch_size"
            )
        label = batchdata["label"].to(device=device, dtype=torch.float32, non_blocking=non_blocking)
        epoch, index = int(batchdata["epoch"][0]), batchdata["index"]
        first, second = (self.view(label, epoch, 2 * index + number) for number in (0, 1))
        return downsample(first, self.image_size), label, (downsample(second, self.image_size),), {}


def validation_metrics(loss_function: Any, device: torch.device) -> dict[str, Metric]:
    """
    Means over all validation images, gathered over the processes.

    Args:
        loss_function: provides the names and weights of the scales; a stock loss has none.
        device: where the sums are kept, so that updates do not wait for the device.

    Returns:
        "val_loss", the weighted sum, and one mean per name of the loss ("val_loss_1x").
    """
    weights = torch.tensor(getattr(loss_function, "weights", (1.0,)), device=device)
    columns = {"val_loss": lambda output: (output["per_image"] * weights).sum(1, keepdim=True)}
    for column, name in enumerate(getattr(loss_function, "names", ())):
        columns[f"val_{name}"] = partial(_column, column)
    # (B, 1) and [0]: Ignite takes the first of two dimensions as the batch, but a vector as one sample
    return {name: Average(transform, device=device)[0] for name, transform in columns.items()}


def _column(column: int, output: dict[str, torch.Tensor]) -> torch.Tensor:
    """One scale's losses, (B, 1)."""
    return output["per_image"][:, column : column + 1]


def baseline_losses(
    loader: Iterable[dict[str, torch.Tensor]],
    prepare_batch: PreparePretrainingBatch,
    network: MIRAM,
    loss_function: MultiScaleReconstructionLoss,
    device: torch.device,
) -> dict[str, float]:
    """
    The validation loss of reconstructions that need no network (:func:`miram.losses.baselines.baseline_per_image`).

    Args:
        loader: the validation loader, whose masks are fixed.
        prepare_batch: draws the same masks as validation does.
        network: determines what is hidden at each scale; it is not run.
        loss_function: the loss.
        device: where to compute.

    Returns:
        per scale "val_mean_1x" and "val_interpolation_1x", means over all images of all processes.
    """
    decoders = [cast(ScaleDecoder, decoder) for decoder in network.decoders]
    total: dict[str, torch.Tensor] = {}
    count = torch.zeros(1, device=device)
    for batch in loader:
        _, label, (keep,), _ = prepare_batch(batch, device)
        losses = baseline_per_image(loss_function, label, [decoder.hidden(keep) for decoder in decoders])
        for kind, per_image in losses.items():
            total[kind] = total.get(kind, 0) + per_image.sum(0)
        count += len(label)
    if dist.is_available() and dist.is_initialized():
        for tensor in (count, *total.values()):
            dist.all_reduce(tensor)
    if not count:  # no validation images
        return {}
    return {
        f"val_{kind}_{scale}": value.item()
        for kind, losses in total.items()
        for scale, value in zip(loss_function.scale_names, losses / count, strict=True)
    }
