"""The CNN keeps to what fine-tuning and evaluation expect of a classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet50
from torch import nn

from miram.errors import InputError
from miram.inference.classifying import load_trained
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content
from studies.comparison.cnn import CNNClassifier, load_trained_cnn, make_cnn


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A file with the keys of torchvision's and timm's ResNet-50, for images of three colors."""
    network = resnet50(spatial_dims=2, n_input_channels=3, num_classes=1000)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    return tmp_path / "resnet50.pth"


def test_imagenet_weights_give_the_features_of_three_equal_colors(imagenet: Path) -> None:
    network = make_cnn(1, 1, 2, 2, "resnet50", str(imagenet), "linear_probe").eval()
    theirs = resnet50(spatial_dims=2, n_input_channels=3, num_classes=1000, conv1_t_stride=2)
    theirs.load_state_dict(torch.load(imagenet, weights_only=True))
    theirs.fc = nn.Identity()
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = theirs.eval()(image.expand(-1, 3, -1, -1))
        # features of up to 100; one sum over colors instead of three products
        torch.testing.assert_close(network.features(image), expected, atol=1e-2, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in network.body.parameters())


def test_an_attentive_probe_pools_the_places(imagenet: Path) -> None:
    network = make_cnn(2, 1, 2, 2, "resnet50", str(imagenet), "attentive_probe").train()
    network(torch.randn(2, 1, 64, 64)).sum().backward()
    assert network.pooling.query.grad is not None
    assert not network.body.training


def test_weights_of_another_network_are_refused(imagenet: Path) -> None:
    with pytest.raises(InputError, match=r"resnet50\.pth is not a ResNet of this architecture"):
        make_cnn(1, 1, 2, 1, "resnet18", str(imagenet))
    with pytest.raises(InputError, match="give one of resnet18, resnet50"):
        make_cnn(1, 1, 2, 1, "resnet19")


@pytest.mark.parametrize(("spatial_dims", "stride"), [(2, 1), (2, 2), (3, 2)])
def test_logits_of_images_and_volumes(spatial_dims: int, stride: int) -> None:
    network = CNNClassifier(3, in_channels=2, spatial_dims=spatial_dims, stem_stride=stride)
    assert network(torch.zeros(2, 2, *[32] * spatial_dims)).shape == (2, 3)


def test_a_model_is_saved_with_its_correction_and_loaded(tmp_path: Path) -> None:
    network = CNNClassifier(1).eval()
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    save_weights_file(tmp_path / "model.pt", classifier_content(network, task, {}, {}, prior_correction=[0.5]))
    loaded = load_trained_cnn(tmp_path / "model.pt", "pathology").network
    image = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(loaded(image), network(image) + 0.5)
    with pytest.raises(InputError, match=r"model\.pt describes a network that cannot be built"):
        load_trained(tmp_path / "model.pt")
