"""In an environment that has timm, such as `scripts/make_interop_environment.sh` makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from miram.networks.vit_encoder import ViTEncoder
from miram.packaging.export_backbone import export_backbone
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.pretrained import pretrained_classifier, read_pretrained

timm = pytest.importorskip(
    "timm", reason="timm wants torchvision: scripts/make_interop_environment.sh makes an environment for it"
)

RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
SIZES = {"img_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 60, "num_layers": 2, "num_heads": 2}


def varied(network: nn.Module) -> nn.Module:
    """Let nothing be left at zero or one, so that a mistaken bias or norm shows."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def exported(tmp_path: Path, **arguments: object) -> tuple[ViTEncoder, Path]:
    encoder = varied(ViTEncoder(**{"in_channels": 1, **SIZES, **arguments}))
    save_weights_file(tmp_path / "backbone.pt", backbone_from_encoder(encoder, RANGE, {}))
    return encoder, export_backbone(tmp_path / "backbone.pt", "timm", tmp_path / "timm")


def of_folder(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def of_checkpoint(folder: Path) -> nn.Module:
    """As versions of timm without `local-dir` load it."""
    config = json.loads((folder / "config.json").read_text())
    return timm.create_model(
        config["architecture"],
        checkpoint_path=folder / "model.safetensors",
        pretrained_cfg_overlay=config["pretrained_cfg"],
        **config["model_args"],
    ).eval()


@pytest.mark.parametrize("create", [of_folder, of_checkpoint])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"img_size": (32, 48), "patch_size": (8, 4), "in_channels": 2},
        {"qkv_bias": False, "pos_embed_type": "learnable"},
        {"class_token": False},
    ],
    ids=str,
)
def test_timm_gives_the_same_tokens_and_features(create, arguments, tmp_path):
    encoder, folder = exported(tmp_path, **arguments)
    network = create(folder)
    image = torch.randn(2, encoder.in_channels, *encoder.img_size)
    with torch.no_grad():
        tokens = encoder(image)
        torch.testing.assert_close(network.forward_features(image), tokens, atol=1e-4, rtol=0)
        torch.testing.assert_close(network(image), encoder.pool(tokens), atol=1e-4, rtol=0)


def test_its_data_config_brings_stored_values_into_the_encoders_range(tmp_path):
    _, folder = exported(tmp_path)
    config = timm.data.resolve_model_data_config(of_folder(folder))
    assert config["input_size"] == (1, 32, 32)
    (mean,), (std,) = config["mean"], config["std"]
    assert [(value - mean) / std for value in (0.0, 0.5, 1.0)] == [-2.0, 0.0, 2.0]


def test_a_head_is_trained_on_the_exported_encoder(tmp_path):
    _, folder = exported(tmp_path)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=2)
    label = torch.arange(8) % 2
    image = torch.randn(8, 1, 32, 32) * label.view(-1, 1, 1, 1)  # noise or nothing
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert network.patch_embed.proj.weight.grad.any()


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_timm_are_read_and_give_the_same_features(wrapped, tmp_path):
    network = varied(
        timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2)
    )
    content = {"model": network.state_dict()} if wrapped else network.state_dict()  # as MAE's authors publish
    torch.save(content, tmp_path / "weights.pth")
    pretrained = read_pretrained(tmp_path / "weights.pth", num_heads=4)
    classifier = pretrained_classifier(pretrained.encoder, 1, pretrained).eval()
    gray = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = network.forward_features(gray.expand(-1, 3, -1, -1))
        torch.testing.assert_close(classifier.encoder(gray), expected, atol=1e-4, rtol=0)
