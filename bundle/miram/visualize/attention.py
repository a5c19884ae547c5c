"""
Where a ViT looked: maps of attention and of relevance on its grid of patches.

The encoder's blocks use the fused kernel, which never forms the attention matrix; while a map is made they take MONAI's
other path, which does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from monai.networks.blocks import SABlock
from torch import nn

from miram.errors import InputError
from miram.networks.vit_encoder import ViTEncoder

MapKind = Literal["relevance", "attention"]


def attention_maps(
    network: nn.Module,
    encoder: ViTEncoder,
    image: torch.Tensor,
    output: torch.Tensor,
    kind: MapKind = "relevance",
    from_class_token: bool = True,
) -> torch.Tensor:
    """
    How much each patch had to do with an output.

    - "relevance": for the chosen output (Chefer, Gur and Wolf, arXiv 2103.15679): attention weighted by its positive
      gradient, accumulated over the blocks.
    - "attention": whatever the output (rollout; Abnar and Zuidema, arXiv 2005.00928): the mean attention of the heads
      with half of the residual stream, multiplied over the blocks.

    Args:
        network: a classifier, image -> (B, K).
        encoder: its encoder.
        image: (B, C, *spatial).
        output: (B, K), how much each output counts, such as +1 for the class that was called and 0 for the others.
        kind: "relevance" or "attention".
        from_class_token: whether the classifier reads the class token; otherwise it pools all patches.

    Returns:
        (B, *grid) from 0 upwards, on the CPU; comparable within an image only.

    Raises:
        InputError: for another kind.
    """
    if kind not in get_args(MapKind):
        raise InputError(f"a map of kind {kind!r} is unknown; use one of {', '.join(get_args(MapKind))}")
    network.eval()
    with torch.enable_grad(), explicit_attention(encoder) as attentions:
        logits = network(image.detach().requires_grad_())
        gradients = torch.autograd.grad((logits.float() * output).sum(), attentions)
    step = _relevance_step if kind == "relevance" else _rollout_step
    joint: torch.Tensor | None = None
    for attention, gradient in zip(attentions, gradients, strict=True):
        joint = step(joint, attention.detach().float(), gradient.float())
    assert joint is not None, "an encoder has at least one block"
    return _read(joint, encoder, from_class_token).cpu()


@contextmanager
def explicit_attention(encoder: ViTEncoder) -> Iterator[list[torch.Tensor]]:
    """
    Let the blocks form their attention matrices, and keep them.

    Yields:
        a list that a forward pass fills with (B, heads, N, N) per block, part of the graph.
    """
    kept: list[torch.Tensor] = []
    layers = [layer for layer in encoder.modules() if isinstance(layer, SABlock)]
    handles = [layer.drop_weights.register_forward_hook(partial(_keep, kept)) for layer in layers]
    fused = [layer.use_flash_attention for layer in layers]
    try:
        for layer in layers:
            layer.use_flash_attention = False
        yield kept
    finally:
        for layer, was_fused, handle in zip(layers, fused, handles, strict=True):
            layer.use_flash_attention = was_fused
            handle.remove()


def _keep(kept: list[torch.Tensor], layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Keep what a dropout layer returns, which is what the values are then weighted by."""
    kept.append(output)


def _relevance_step(joint: torch.Tensor | None, attention: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """R <- R + A R with A the mean over heads of the attention's positive contributions; R begins as the identity."""
    mixing = (attention * gradient).clamp(min=0).mean(dim=1)
    joint = _identity(attention) if joint is None else joint
    return joint + mixing @ joint


def _rollout_step(joint: torch.Tensor | None, attention: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """R <- (A + I) / 2 R with A the mean attention of the heads."""
    identity = _identity(attention)
    return (attention.mean(dim=1) + identity) / 2 @ (identity if joint is None else joint)


def _identity(attention: torch.Tensor) -> torch.Tensor:
    return torch.eye(attention.shape[-1], device=attention.device).expand(attention.shape[0], -1, -1)


def _read(joint: torch.Tensor, encoder: ViTEncoder, from_class_token: bool) -> torch.Tensor:
    """What the classifier reads drew from each patch: the class token's row, or the mean row of the patches."""
    first = 0 if encoder.cls_token is None else 1
    if from_class_token and first:
        rows = joint[:, 0, 1:]
    else:
        # A patch's own identity says nothing about where the evidence is: it is the same for all.
        rows = joint[:, first:, first:].mean(dim=1)
        rows = rows - rows.amin(dim=1, keepdim=True)
    return rows.reshape(-1, *encoder.grid)
