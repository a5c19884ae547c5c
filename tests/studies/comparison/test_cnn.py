"""The CNN keeps to what fine-tuning and evaluation expect of a classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from miram.errors import InputError
from miram.inference.classifying import load_trained
from miram.weights.classifier import classifier_content, save_classifier
from studies.comparison.cnn import CNNClassifier, load_trained_cnn


@pytest.mark.parametrize(("spatial_dims", "stride"), [(2, 1), (2, 2), (3, 2)])
def test_logits_of_images_and_volumes(spatial_dims: int, stride: int) -> None:
    network = CNNClassifier(3, in_channels=2, spatial_dims=spatial_dims, stem_stride=stride)
    assert network(torch.zeros(2, 2, *[32] * spatial_dims)).shape == (2, 3)


def test_a_model_is_saved_with_its_correction_and_loaded(tmp_path: Path) -> None:
    network = CNNClassifier(1).eval()
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    save_classifier(tmp_path / "model.pt", classifier_content(network, task, {}, {}, prior_correction=[0.5]))
    loaded = load_trained_cnn(tmp_path / "model.pt", "pathology").network
    image = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(loaded(image), network(image) + 0.5)
    with pytest.raises(InputError, match=r"model\.pt describes a network that cannot be built"):
        load_trained(tmp_path / "model.pt")
