"""What fine-tuning, probes and evaluation expect of a classifier whose encoder is not ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from miram.networks.classifier import AttentivePooling, FreezableEncoder


class PooledClassifier(FreezableEncoder):
    """
    Tokens of an image, pooled to features, and a linear head; a subclass makes the tokens.

    Args:
        network_def: the arguments of the subclass, plain values; stored in `model.pt`.
        pool: "summary", the encoder's own (:meth:`summarize`); or "attention", one learned query.
    """

    encoder_name = "body"

    def __init__(self, network_def: dict[str, Any], width: int, num_classes: int, pool: str = "summary") -> None:
        super().__init__()
        self.network_def = network_def
        self.pooling = AttentivePooling(width, max(width // 64, 1)) if pool == "attention" else None
        self.classification_head = nn.Linear(width, num_classes)
        self.body: nn.Module

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """The tokens (B, N, D) of images (B, C, *spatial)."""
        raise NotImplementedError

    def summarize(self, tokens: torch.Tensor) -> torch.Tensor:
        """Reduce tokens (B, N, D) to features (B, D)."""
        return tokens.mean(dim=1)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """The features (B, D) of images (B, C, *spatial)."""
        tokens = self.tokens(image)
        return self.summarize(tokens) if self.pooling is None else self.pooling(tokens)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (B, K) of images (B, C, *spatial)."""
        return self.classification_head(self.features(image))


def prepare_for(network: PooledClassifier, mode: str) -> PooledClassifier:
    """Freeze the encoder of a probe; "finetune" leaves it."""
    if mode != "finetune":
        network.freeze_encoder()
    return network


def pool_of(mode: str) -> str:
    """The pooling of a mode of configs/finetune.yaml."""
    return "attention" if mode == "attentive_probe" else "summary"
