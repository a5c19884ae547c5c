"""Stock MONAI networks that start from a backbone: they train, and the encoder with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from torch import nn

from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, resize_backbone, vit_from_backbone

SAME = ("in_channels", "img_size", "hidden_size", "mlp_dim", "num_heads", "spatial_dims", "qkv_bias")


def backbone_of(*size: int) -> dict[str, Any]:
    """With the patches and layers that a stock UNETR hard-codes."""
    return backbone_from_encoder(ViTEncoder(1, size, 16, 24, 48, 12, 2, spatial_dims=len(size)), {}, {})


def unetr_of(backbone: dict[str, Any]) -> UNETR:
    sizes = {name: backbone["network_def"][name] for name in SAME}
    network = UNETR(out_channels=2, feature_size=4, **sizes)
    network.vit.load_state_dict(backbone["state_dict"], strict=True)
    return network


def discs(*size: int, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright ball in each image (B, 1, *size), and its mask."""
    axes = torch.stack(torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij"))
    centres = torch.stack([torch.randint(6, n - 6, (count,)) for n in size], dim=1)
    distance = (axes[None] - centres.view(count, len(size), *[1] * len(size))).float().norm(dim=1, keepdim=True)
    mask = distance < 5
    return torch.randn(count, 1, *size) * 0.3 + 2 * mask, mask.long()


def losses_of(network: nn.Module, loss_of: Callable[[], torch.Tensor], lr: float, steps: int = 12) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr)
    losses = []
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def without_gradient(network: nn.Module) -> set[str]:
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    }


@pytest.mark.parametrize("size", [(32, 48), (32, 32, 32)], ids=str)
def test_the_encoder_of_a_stock_unetr_gives_the_tokens_of_the_backbone(size):
    backbone = backbone_of(*size)
    network = unetr_of(backbone).eval()
    image = torch.randn(1, 1, *size)
    assert torch.equal(network.vit(image)[0], vit_from_backbone(backbone).eval()(image)[0])
    assert network(image).shape == (1, 2, *size)


@pytest.mark.parametrize("size", [(48, 32), (16, 32, 48)], ids=str)
def test_a_stock_unetr_takes_a_resized_backbone(size):
    backbone = resize_backbone(backbone_of(*[32] * len(size)), size)
    network = unetr_of(backbone).eval()
    image = torch.randn(1, 1, *size)
    assert torch.equal(network.vit(image)[0], vit_from_backbone(backbone).eval()(image)[0])
    assert network(image).shape == (1, 2, *size)


@pytest.mark.parametrize("size", [(32, 32), (32, 32, 16)], ids=str)
def test_a_stock_unetr_learns_to_segment_and_trains_its_encoder(size):
    network = unetr_of(backbone_of(*size))
    image, mask = discs(*size)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    losses = losses_of(network, lambda: loss_function(network(image), mask), lr=1e-2)
    assert losses[-1] < 0.7 * losses[0]
    # without cross attention its norm is never used; everything else is
    assert {name.rpartition("norm_cross_attn")[1] for name in without_gradient(network)} <= {"norm_cross_attn"}


@pytest.mark.parametrize("size", [(32, 32), (16, 32, 16)], ids=str)
def test_a_stock_vit_learns_to_classify_and_trains_its_encoder(size):
    network = vit_from_backbone(backbone_of(*size), num_classes=2)
    image, _ = discs(*size, count=8)
    label = torch.arange(8) % 2
    image = image * label.view(-1, *[1] * (len(size) + 1))  # noise or nothing
    losses = losses_of(network, lambda: nn.functional.cross_entropy(network(image)[0], label), lr=3e-3)
    assert losses[-1] < 0.5 * losses[0]
    assert {name.rpartition("norm_cross_attn")[1] for name in without_gradient(network)} <= {"norm_cross_attn"}
