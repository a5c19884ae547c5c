"""
What a ViT attended to: maps of attention and of relevance on its grid of patches.

The encoder's blocks use the fused kernel, which never forms the attention matrix. While a map is made they use MONAI's
other implementation, which does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    How much each patch contributed to an output.

    - "attention" does not depend on the output: rollout (Abnar and Zuidema, arXiv 2005.00928), the product over blocks
      of the heads' mean attention, averaged with the identity for the residual stream.
    - "relevance" depends on the output: the same, but each attention is first weighted by its positive gradient (as in
      Chefer, Gur and Wolf, arXiv 2012.09838) and each row is normalised to a sum of 1, so that no block outweighs the
      others.

    Args:
        network: a classifier, image -> (B, K).
        encoder: its encoder.
        image: (B, C, *spatial).
        output: (B, K), the weight of each output, such as +1 for the predicted class and 0 for the others.
        from_class_token: whether the classifier reads the class token; otherwise it pools all patches.

    Returns:
        (B, *grid), not negative, on the CPU; comparable only within an image.

    Raises:
        InputError: for another kind.
    """
    if kind not in get_args(MapKind):
        raise InputError(f"a map of kind {kind!r} is unknown; use one of {', '.join(get_args(MapKind))}")
    network.eval()
    with torch.enable_grad(), explicit_attention(encoder) as attentions:
        logits = network(image.detach().requires_grad_())
        gradients = torch.autograd.grad((logits.float() * output).sum(), attentions)
    joint = torch.eye(attentions[0].shape[-1], device=image.device)  # of tokens with themselves
    for attention, gradient in zip(attentions, gradients, strict=True):
        weights = attention.detach() * gradient.clamp(min=0) if kind == "relevance" else attention.detach()
        joint = _roll_out(joint, weights.float().mean(dim=1))
    return _read(joint, encoder, from_class_token).cpu()


@contextmanager
def explicit_attention(encoder: ViTEncoder) -> Iterator[list[torch.Tensor]]:
    """
    Make the blocks form their attention matrices, and keep them.

    Yields:
        a list to which a forward pass adds (B, heads, N, N) per block, part of the graph.
    """
    kept: list[torch.Tensor] = []
    layers = [layer for layer in encoder.modules() if isinstance(layer, SABlock)]
    # what this dropout layer returns are the weights of the values
    handles = [layer.drop_weights.register_forward_hook(lambda *call: kept.append(call[-1])) for layer in layers]
    fused = [layer.use_flash_attention for layer in layers]
    try:
        for layer in layers:
            layer.use_flash_attention = False
        yield kept
    finally:
        for layer, was_fused, handle in zip(layers, fused, handles, strict=True):
            layer.use_flash_attention = was_fused
            handle.remove()


def _roll_out(joint: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    """Add one block's mixing of tokens (B, N, N), and the identity, to that of the earlier blocks (B, N, N)."""
    mixing = mixing / mixing.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    identity = torch.eye(mixing.shape[-1], device=mixing.device)
    return (mixing + identity) / 2 @ joint


def _read(joint: torch.Tensor, encoder: ViTEncoder, from_class_token: bool) -> torch.Tensor:
    """Each patch's contribution to what the classifier reads: the class token's row, or the patches' mean row."""
    first = 0 if encoder.cls_token is None else 1
    if from_class_token and first:
        rows = joint[:, 0, 1:]
    else:
        # The identity contributes the same to every patch and says nothing about where the evidence is.
        rows = joint[:, first:, first:].mean(dim=1)
        rows = rows - rows.amin(dim=1, keepdim=True)
    return rows.reshape(-1, *encoder.grid)
