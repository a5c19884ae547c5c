"""MIRAM: one encoder, one decoder per scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from miram.networks.decoders.base import Decoded, Decoder, prefix_tokens
from miram.networks.decoders.factory import make_decoder
from miram.networks.vit_encoder import ViTEncoder


class MIRAM(nn.Module):
    """
    Multi-scale masked image reconstruction (arXiv 2503.07157).

    The encoder sees the visible patches of an image; each decoder reconstructs the whole image at its own scale from
    the same latent. With one decoder at scale 1 this is MAE (arXiv 2111.06377).

    Args:
        decoders: one per scale, each a decoder or the arguments of
            :func:`miram.networks.decoders.factory.make_decoder` without `encoder`.
        extra_outputs: numbers that the decoders predict for each patch beside its pixels, as the loss needs them
            (:class:`miram.losses.reconstruction.MultiScaleReconstructionLoss`).
        texture_outputs: numbers that are predicted of the whole image, from the mean of the visible tokens and, if the
            encoder has one, the class token; as the loss needs them.

    Raises:
        ValueError: if there is no decoder, or two have the same scale.
    """

    def __init__(
        self,
        encoder: ViTEncoder,
        decoders: Sequence[Decoder | Mapping[str, Any]],
        extra_outputs: int = 0,
        texture_outputs: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleList(
            make_decoder(encoder, extra_outputs=extra_outputs, **decoder) if isinstance(decoder, Mapping) else decoder
            for decoder in decoders
        )
        if not self.decoders:
            raise ValueError("MIRAM needs at least one decoder.")
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"each scale takes one decoder, got the scales {self.scales}.")
        self.prefix = prefix_tokens(encoder)
        self.texture_head: nn.Module | None = None
        if texture_outputs:
            width = (1 + self.prefix) * encoder.hidden_size
            self.texture_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, texture_outputs))

    @property
    def scales(self) -> list[float]:
        """The scales, in the order of the decoders."""
        return [cast(Decoder, decoder).scale for decoder in self.decoders]

    def forward(self, image: torch.Tensor, keep: torch.Tensor) -> dict[str, Any]:
        """
        Reconstruct an image from its visible patches.

        Args:
            image: (B, C, *spatial) of the encoder's size.
            keep: (B, V) indices of the visible patches.

        Returns:
            lists in the decoders' order: "predictions", (B, n, P + extra_outputs) patches, "masks", (B, n) bool, True
            where a patch counts in the loss, and "places", (B, n) indices on the scale's grid, or None for the whole
            grid in row-major order; see :class:`miram.networks.decoders.base.Decoded`. With `texture_outputs` also
            "texture", (B, texture_outputs).
        """
        latent = self.encoder(image, keep)
        outputs: list[Decoded] = [decoder(latent, keep) for decoder in self.decoders]
        result: dict[str, Any] = {
            "predictions": [decoded.prediction for decoded in outputs],
            "masks": [decoded.mask for decoded in outputs],
            "places": [decoded.places for decoded in outputs],
        }
        if self.texture_head is not None:
            pooled = torch.cat((latent[:, : self.prefix].flatten(1), latent[:, self.prefix :].mean(dim=1)), dim=1)
            result["texture"] = self.texture_head(pooled)
        return result
