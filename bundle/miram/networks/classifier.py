"""A classifier on the ViT encoder: pooling and a linear head."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from monai.networks.nets import ViT
from torch import nn

from miram.errors import InputError
from miram.files import atomic_write
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import check_fits, check_kinds, load_weights_file

Pool = Literal["token", "mean", "attention"]

_KEYS = {"network_def", "state_dict", "task", "preprocessing", "provenance"}


class AttentivePooling(nn.Module):
    """
    One learned query that attends to all tokens (the attentive probe of Chen et al., "Context Autoencoder", arXiv
    2202.03026).

    Args:
        hidden_size: width of a token, D.
        num_heads: attention heads.
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


class ViTClassifier(nn.Module):
    """
    The encoder, pooling, and a linear head.

    Args:
        encoder: arguments of :class:`miram.networks.vit_encoder.ViTEncoder`, plain values.
        num_classes: logits, K; 1 for a binary task.
        pool: "token", the class token; "mean" of the patch tokens; or "attention", :class:`AttentivePooling`.
        feature_norm: standardise the pooled features over batches before the head, without parameters of its own, as
            MAE's linear probe does (arXiv 2111.06377, appendix A.1): features of frozen encoders differ in scale.
        layer_norm_eps: what the encoder's layer norms add to the variance: MONAI's 1e-5, or that of public weights.
        head_std: deviation of the head's initial weights; MAE fine-tunes from nearly zero.

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
        _set_layer_norm_eps(self.encoder, layer_norm_eps)
        width = self.encoder.hidden_size
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
        self.frozen = False

    def freeze_encoder(self) -> None:
        """Train pooling and head only: the encoder takes no gradient, and runs as in evaluation."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ViTClassifier:
        """Switch to training or evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """The pooled tokens (B, D) of images (B, C, *spatial)."""
        tokens = self.encoder(image)  # (B, [1 +] N, D), normalised
        if self.pooling is not None:
            return self.pooling(tokens)
        if self.pool == "token":
            return tokens[:, 0]
        patches = tokens if self.encoder.cls_token is None else tokens[:, 1:]
        return patches.mean(dim=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (B, K) of images (B, C, *spatial)."""
        return self.classification_head(self.feature_norm(self.features(image)))


def stock_classifier(network: ViTClassifier) -> ViT:
    """
    Build the stock MONAI ViT that gives the same logits as its first output.

    Args:
        network: a classifier that pools the class token.

    Returns:
        `ViT(classification=True)` without a final activation; its keys are the encoder's, and `classification_head.*`.

    Raises:
        InputError: if the network pools otherwise.
    """
    if network.pool != "token":
        raise InputError(
            f"the classifier pools by {network.pool!r}, a stock ViT by the class token: train with pool 'token'"
        )
    stock = ViT(
        **{**network.encoder.network_def, "classification": True},
        num_classes=network.num_classes,
        post_activation="",
    )
    weight, bias = _folded_head(network)
    head = {"classification_head.weight": weight, "classification_head.bias": bias}
    stock.load_state_dict({**network.encoder.state_dict(), **head}, strict=True)
    _set_layer_norm_eps(stock, network.network_def["layer_norm_eps"])
    return stock.train(network.training)


def _set_layer_norm_eps(network: nn.Module, eps: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def _folded_head(network: ViTClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (K, D) and bias (K,) of a linear layer that standardises as well."""
    weight, bias = network.classification_head.weight.detach(), network.classification_head.bias.detach()
    norm = network.feature_norm
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_var is None or norm.running_mean is None:
        return weight, bias
    weight = weight / (norm.running_var + norm.eps).sqrt()
    return weight, bias - weight @ norm.running_mean


def classifier_content(
    network: ViTClassifier,
    task: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    provenance: Mapping[str, Any],
    prior_correction: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """
    Describe a trained classifier in plain values and tensors, as `model.pt` holds it.

    Args:
        network: the trained classifier.
        task: "name", "type" and "classes" of what it predicts.
        preprocessing: how pixels became its input.
        provenance: where the weights come from.
        prior_correction: (K,) added to the head's bias, so that the logits of a network trained on balanced classes fit
            how often these occur (:func:`miram.inference.calibrated.prior_correction`).
    """
    return {
        "network_def": network.network_def,
        "state_dict": corrected_state(network, prior_correction),
        "task": {"name": task["name"], "type": task["type"], "classes": list(task["classes"])},
        "preprocessing": dict(preprocessing),
        "provenance": dict(provenance),
    }


def corrected_state(
    network: nn.Module, correction: Sequence[float] | np.ndarray | None = None, head: str = "classification_head"
) -> dict[str, torch.Tensor]:
    """
    A copy of a classifier's weights on the CPU.

    Args:
        network: a classifier.
        correction: (K,) added to the bias of its head; None adds nothing.
        head: the name of its last layer.
    """
    state = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    if correction is not None:
        bias = state[f"{head}.bias"]
        bias += torch.as_tensor(np.asarray(correction), dtype=bias.dtype)
    return state


def read_scaling(content: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """
    Scale and bias of the logits that a file holds, a number a class; an older file's temperature is 1 / scale of all.

    Returns:
        both, empty where the file holds none.

    Raises:
        ValueError: if they are not as many finite numbers, the scales positive.
    """
    temperature = content.get("temperature")
    scale, bias = content.get("scale") or [], content.get("bias") or []
    if temperature is not None:
        scale, bias = [temperature], [0.0]
    if not (isinstance(scale, list) and isinstance(bias, list) and len(scale) == len(bias)):
        raise ValueError("its scale and bias are not two lists with a number for each class")
    numbers = all(isinstance(value, int | float) and abs(value) < 1e30 for value in scale + bias)
    if not numbers or min(scale, default=1) <= 0:
        raise ValueError("its scale or temperature is not positive, or its bias not a number")
    return ([1 / temperature] if temperature is not None else scale), bias


def save_classifier(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what :func:`classifier_content` gives, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(dict(content), temporary)


def _check_facts(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    task, thresholds = content["task"], content.get("thresholds")
    classes = task.get("classes")
    named = isinstance(task.get("name"), str) and task.get("type") in ("binary", "multiclass", "multilabel")
    if not (named and isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise InputError(f"{path} is damaged: its task has no name, known type and list of classes")
    try:
        scale, _ = read_scaling(content)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if len(scale) not in (0, 1, len(classes[-1:] if task["type"] == "binary" else classes)):
        raise InputError(f"{path} is damaged: it has {len(scale)} scales of logits for {len(classes)} classes")
    levels = [] if thresholds is None else list(thresholds.values()) if isinstance(thresholds, dict) else [None]
    if not all(isinstance(level, dict) for level in levels):
        raise InputError(f"{path} is damaged: its thresholds are no dictionary of levels and classes")


def load_classifier(path: str | os.PathLike[str]) -> tuple[ViTClassifier, dict[str, Any]]:
    """
    Read a classifier on the CPU, in evaluation mode. Nothing in the file is executed.

    Returns:
        the network, and the rest of the file: "network_def", "task", "preprocessing", "provenance"; in older files also
        "temperature" and "thresholds".

    Raises:
        InputError: if the file is missing, damaged or no classifier.
    """
    content = load_weights_file(path)
    if not content.keys() >= _KEYS:
        raise InputError(
            f"{path} is no classifier: it lacks {sorted(_KEYS - content.keys())}. "
            "Give the model.pt of a fine-tuning run."
        )
    parts = ("network_def", "state_dict", "task", "preprocessing", "provenance")
    check_kinds(path, content, dict.fromkeys(parts, dict))
    _check_facts(path, content)
    state = content.pop("state_dict")
    if "label_size" in content["preprocessing"]:  # the earlier name
        content["preprocessing"]["field_of_view"] = content["preprocessing"].pop("label_size")  # the earlier name
    network_def, encoder = content["network_def"], content["network_def"].get("encoder")
    check_fits(path, lambda: ViTClassifier(**network_def), encoder if isinstance(encoder, dict) else {}, state)
    network = ViTClassifier(**network_def)
    network.load_state_dict(state, strict=True)
    return network.eval(), content
