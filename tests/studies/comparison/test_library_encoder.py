"""Encoders of Hugging Face, randomly initialised; those of timm are in tests/interop/test_timm_encoder.py."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from miram.errors import InputError
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content
from studies.comparison import library_encoder
from studies.comparison.library_encoder import load_trained_library_encoder, make_library_encoder

transformers = pytest.importorskip("transformers", reason="transformers (extra `test`) is not installed")

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CONFIGS = {
    "vit": lambda: transformers.ViTConfig(**SIZES, image_size=32, patch_size=8),
    "dinov2": lambda: transformers.Dinov2Config(**SIZES, image_size=28, patch_size=14),
    "dinov3_vit": lambda: transformers.DINOv3ViTConfig(**SIZES, image_size=32, patch_size=8),
    "vit_mae": lambda: transformers.ViTMAEConfig(**SIZES, image_size=32, patch_size=8),
    "resnet": lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}


@pytest.fixture
def folder(tmp_path: Path, request) -> Path:
    transformers.AutoModel.from_config(CONFIGS[request.param]()).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


@pytest.mark.parametrize("folder", CONFIGS, indirect=True)
@pytest.mark.parametrize("mode", ["finetune", "attentive_probe"])
def test_any_encoder_gives_features_and_is_saved_and_loaded(folder: Path, mode: str, tmp_path: Path) -> None:
    network = make_library_encoder("hf", str(folder), 1, mode=mode, input_size=56).eval()
    image = torch.randn(3, 1, 40, 40)
    assert torch.isfinite(network.features(image)).all()
    network.train()(image).sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert ("body" in {name.partition(".")[0] for name in trained}) == (mode == "finetune")
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    save_weights_file(tmp_path / "model.pt", classifier_content(network, task, {}, {}, prior_correction=[0.5]))
    loaded = load_trained_library_encoder(tmp_path / "model.pt", "pathology").network
    torch.testing.assert_close(loaded(image), network.eval()(image) + 0.5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", ["dinov2"], indirect=True)
def test_pixels_are_normalised_as_the_encoder_wants_them_and_the_class_token_is_the_feature(folder: Path) -> None:
    processor = transformers.BitImageProcessor(image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    processor.save_pretrained(folder)
    network = make_library_encoder("hf", str(folder), 1, preprocessing={"b_min": 0.0, "b_max": 2.0}).eval()
    image = torch.rand(2, 1, 28, 28) * 2
    expected = ((image / 2 - 0.5) / 0.25).expand(-1, 3, -1, -1)
    torch.testing.assert_close(network.prepare(image), expected)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(network.features(image), theirs(expected).last_hidden_state[:, 0])


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    caplog.set_level(logging.ERROR)
    with pytest.raises(InputError, match=r"hf does not give the encoder .*absent.*hf download NAME"):
        make_library_encoder("hf", str(tmp_path / "absent"), 1)
    monkeypatch.setitem(library_encoder.LIBRARIES, "timm", "no_such_package")
    with pytest.raises(InputError, match="need the package no_such_package: pip install no_such_package"):
        make_library_encoder("timm", "vit_tiny_patch16_224", 1)
    with pytest.raises(InputError, match="give one of timm, hf"):
        make_library_encoder("keras", "vit", 1)
