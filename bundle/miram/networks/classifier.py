"""A classifier on the ViT encoder: pooling and a linear head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
from monai.networks.nets import ViT
from torch import nn

from miram.errors import InputError
from miram.networks.vit_encoder import ViTEncoder

Pool = Literal["token", "mean", "statistics", "attention"]


class FreezableEncoder(nn.Module):
    """A network whose encoder can be frozen, while the layers on top of it are trained."""

    frozen = False
    encoder_name = "encoder"  # of the attribute

    def freeze_encoder(self) -> None:
        """Train all but the encoder: it gets no gradient and stays in evaluation mode."""
        self.frozen = True
        self.get_submodule(self.encoder_name).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.get_submodule(self.encoder_name).eval()
        return self


class AttentivePooling(nn.Module):
    """
    One learned query that attends to all tokens (the attentive probe of Chen et al., "Context Autoencoder", arXiv
    2202.03026).
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool tokens (B, N, D) to (B, D)."""
        query = self.query.expand(tokens.shape[0], -1, -1)
        pooled, _ = self.attention(query, tokens, tokens, need_weights=False)
        return pooled[:, 0]


class ViTClassifier(FreezableEncoder):
    """
    The encoder, pooling, and a linear head.

    Args:
        encoder: arguments of :class:`miram.networks.vit_encoder.ViTEncoder`, plain values.
        num_classes: logits, K; 1 for a binary task.
        pool: "token", the class token; "mean" of the patch tokens; "statistics", the class token, and mean, standard
            deviation and maximum of the patch tokens, one after the other; or "attention", :class:`AttentivePooling`.
        feature_norm: standardise the pooled features over batches before the head, without learned parameters, as
            MAE's linear probe does (arXiv 2111.06377, appendix A.1): features of frozen encoders differ in scale.
        layer_norm_eps: what the encoder's layer norms add to the variance: MONAI's 1e-5, or that of public weights.
        head_std: standard deviation of the head's initial weights; MAE fine-tunes from nearly zero.

    Raises:
        ValueError: if the pooling is unknown, or needs a class token that the encoder does not have.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        num_classes: int,
        pool: Pool = "token",
        feature_norm: bool = False,
        layer_norm_eps: float = 1e-5,
        head_std: float = 2e-5,
    ) -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise ValueError(f"pool must be one of {', '.join(get_args(Pool))}, got {pool!r}.")
        self.encoder = ViTEncoder(**encoder)
        if pool == "token" and self.encoder.cls_token is None:
            raise ValueError("pool 'token' needs an encoder with a class token: use 'mean' or 'attention'.")
        set_layer_norm_eps(self.encoder, layer_norm_eps)
        width = self.encoder.hidden_size
        if pool == "statistics":
            width *= 3 if self.encoder.cls_token is None else 4
        self.network_def: dict[str, Any] = {
            "encoder": dict(encoder),
            "num_classes": num_classes,
            "pool": pool,
            "feature_norm": feature_norm,
            "layer_norm_eps": layer_norm_eps,
        }
        self.pool = pool
        self.num_classes = num_classes
        self.pooling = AttentivePooling(width, self.encoder.network_def["num_heads"]) if pool == "attention" else None
        self.feature_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if feature_norm else nn.Identity()
        self.classification_head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.classification_head.weight, std=head_std)
        nn.init.zeros_(self.classification_head.bias)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """The pooled tokens (B, D) of images (B, C, *spatial); D is four times as many with "statistics"."""
        tokens = self.encoder(image)  # (B, [1 +] N, D), normalised
        if self.pooling is not None:
            return self.pooling(tokens)
        if self.pool == "token":
            return tokens[:, 0]
        class_token, patches = ([], tokens) if self.encoder.cls_token is None else ([tokens[:, 0]], tokens[:, 1:])
        if self.pool == "mean":
            return patches.mean(dim=1)
        deviation = (patches.var(dim=1, correction=0) + 1e-6).sqrt()  # a root of zero would not have a gradient
        return torch.cat([*class_token, patches.mean(dim=1), deviation, patches.amax(dim=1)], dim=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (B, K) of images (B, C, *spatial)."""
        return self.classification_head(self.feature_norm(self.features(image)))


def stock_classifier(network: ViTClassifier) -> ViT:
    """
    Build the stock MONAI ViT whose first output is the same logits.

    Args:
        network: a classifier that pools the class token.

    Returns:
        `ViT(classification=True)` without a final activation; its keys are the encoder's, and `classification_head.*`.

    Raises:
        InputError: if the network uses other pooling.
    """
    if network.pool != "token":
        raise InputError(
            f"the classifier uses pool {network.pool!r}, but a stock ViT pools the class token: train with pool 'token'"
        )
    stock = ViT(
        **{**network.encoder.network_def, "classification": True},
        num_classes=network.num_classes,
        post_activation="",
    )
    weight, bias = _folded_head(network)
    head = {"classification_head.weight": weight, "classification_head.bias": bias}
    stock.load_state_dict({**network.encoder.state_dict(), **head}, strict=True)
    set_layer_norm_eps(stock, network.network_def["layer_norm_eps"])
    return stock.train(network.training)


def set_layer_norm_eps(network: nn.Module, eps: float) -> None:
    """Set what all layer norms add to the variance."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def _folded_head(network: ViTClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (K, D) and bias (K,) of a linear layer that includes the standardisation."""
    weight, bias = network.classification_head.weight.detach(), network.classification_head.bias.detach()
    norm = network.feature_norm
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_var is None or norm.running_mean is None:
        return weight, bias
    weight = weight / (norm.running_var + norm.eps).sqrt()
    return weight, bias - weight @ norm.running_mean
