"""The loss of methods that compare two views; it wraps MONAI's own loss."""

from __future__ import annotations

import torch
from monai.losses import BarlowTwinsLoss
from torch import nn


class TwoViewLoss(nn.Module):
    """
    Barlow Twins (arXiv 2103.03230): both views of an image should agree in every feature, and different features
    should not be correlated.

    Args:
        redundancy_weight: weight of the correlations between different features (lambda in the paper's equation 1).
    """

    names = ("loss_barlow_twins",)
    weights = (1.0,)

    def __init__(self, redundancy_weight: float = 5e-3) -> None:
        super().__init__()
        self.loss = BarlowTwinsLoss(redundancy_weight)

    def forward(self, output: tuple[torch.Tensor, torch.Tensor], label: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        The loss of a batch of at least two images.

        Args:
            output: what :class:`miram.networks.two_views.TwoViewNetwork` returns, two tensors (B, P) of all processes.
            label: not used; each view is the other's target.

        Returns:
            "loss", to minimise, and the same as "loss_barlow_twins".
        """
        loss = self.loss(output[0].float(), output[1].float())
        return {"loss": loss, self.names[0]: loss}

    def per_image(self, output: tuple[torch.Tensor, torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The loss of the batch, repeated for each image of this process, (B, 1): correlations belong to the batch."""
        return self(output, label)["loss"].expand(len(label), 1)
