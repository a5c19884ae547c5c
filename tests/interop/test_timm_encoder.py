"""Encoders of timm as methods of a comparison, randomly initialised; in an environment that has timm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from miram.errors import InputError
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content
from studies.comparison.library_encoder import load_trained_library_encoder, make_library_encoder

timm = pytest.importorskip("timm", reason="scripts/make_interop_environment.sh makes an environment with timm")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("mode", ["finetune", "attentive_probe"])
def test_an_encoder_starts_from_a_file_and_is_saved_and_loaded(name: str, mode: str, tmp_path: Path) -> None:
    theirs = timm.create_model(name, num_classes=10).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    network = make_library_encoder("timm", name, 1, str(tmp_path / "weights.pth"), mode=mode).eval()
    image = torch.randn(2, 1, 64, 64)
    if mode == "finetune":
        with torch.no_grad():
            expected = theirs.forward_head(theirs.forward_features(network.prepare(image)), pre_logits=True)
            torch.testing.assert_close(network.features(image), expected, atol=1e-4, rtol=1e-4)
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    save_weights_file(tmp_path / "model.pt", classifier_content(network, task, {}, {}))
    loaded = load_trained_library_encoder(tmp_path / "model.pt", "pathology").network
    torch.testing.assert_close(loaded(image), network(image), atol=1e-4, rtol=1e-4)


def test_positions_are_made_for_another_size(tmp_path: Path) -> None:
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "weights.pth")
    network = make_library_encoder("timm", "vit_tiny_patch16_224", 1, str(tmp_path / "weights.pth"), input_size=64)
    assert network.tokens(torch.randn(1, 1, 64, 64)).shape == (1, 1 + 16, 192)


def test_what_timm_lacks_is_said(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth lacks \d+ weights of timm's vit_tiny"):
        make_library_encoder("timm", "vit_tiny_patch16_224", 1, str(tmp_path / "weights.pth"))
    with pytest.raises(InputError, match="timm has no model vit_of_nobody"):
        make_library_encoder("timm", "vit_of_nobody", 1)
