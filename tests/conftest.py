"""What many tests share: tiny networks and reproducible numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

torch.set_num_threads(1)  # the tests run in several processes, a core each

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same state of torch's generator."""
    torch.manual_seed(0)


@pytest.fixture
def repository() -> Path:
    """The root of the repository, which is the bundle's root."""
    return REPOSITORY


@pytest.fixture
def tiny_encoder() -> ViTEncoder:
    """32 x 32 pixels in 4 x 4 patches of 8, width 24."""
    return ViTEncoder(in_channels=1, img_size=32, patch_size=8, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2)


@pytest.fixture
def tiny_miram(tiny_encoder: ViTEncoder) -> MIRAM:
    """The tiny encoder with decoders at 1x and 2x."""
    return MIRAM(
        tiny_encoder, [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]
    )
