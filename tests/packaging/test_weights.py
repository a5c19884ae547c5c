import json

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import NetAdapter
from torch import nn

from miram.errors import InputError
from miram.inference.calibrated import Calibration
from miram.inference.classifying import load_trained
from miram.networks.classifier import ViTClassifier
from miram.packaging.weights import (
    classifier_facts,
    load_packaged,
    load_weights,
    network_definition,
    packaged_state,
    saved_bytes,
)

from ..classifier_case import ENCODER, make_classifier


def built(network):
    """The network that a config's reader builds of the definition, with the packaged weights."""
    definition = json.loads(json.dumps(network_definition(network)))
    made = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    made.load_state_dict(packaged_state(network), strict=True)
    return made.eval()


@pytest.fixture
def image():
    return torch.randn(3, 1, 16, 16)


def test_a_classifier_that_pools_the_class_token_is_monais_own_network(image):
    network = make_classifier(num_classes=3)
    made = built(network)
    assert type(made) is NetAdapter
    # our encoder's fused attention rounds otherwise than the stock one
    torch.testing.assert_close(made(image), network(image), atol=2e-6, rtol=1e-5)


def test_a_linear_probes_norm_is_folded_into_the_stock_head(image):
    network = ViTClassifier(ENCODER, 2, feature_norm=True, head_std=0.5)
    network(torch.randn(64, 1, 16, 16) * 3)  # moves the statistics
    made = built(network.eval())
    assert type(made) is NetAdapter
    torch.testing.assert_close(made(image), network(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("pool", "eps"), [("mean", 1e-5), ("attention", 1e-5), ("token", 1e-6)])
def test_other_classifiers_are_ours(image, pool, eps):
    network = ViTClassifier(ENCODER, 2, pool, layer_norm_eps=eps, head_std=0.5).eval()
    assert network_definition(network)["_target_"] == "miram.networks.classifier.ViTClassifier"
    torch.testing.assert_close(built(network)(image), network(image), atol=0, rtol=0)


def test_weights_of_another_name_are_the_same_bytes(checkpoint):
    state = packaged_state(load_trained(checkpoint).network)
    assert saved_bytes(state) == saved_bytes({key: value.clone() for key, value in state.items()})


@pytest.fixture
def saved(checkpoint, tmp_path):
    """The packaged weights of the checkpoint and their facts, with a calibration."""
    trained = load_trained(checkpoint)
    weights = saved_bytes(packaged_state(trained.network))
    (tmp_path / "model.pt").write_bytes(weights)
    calibration = Calibration([0.4], [-1.0], "", {"image": {"MALIGNANT": 0.3}})
    return tmp_path / "model.pt", classifier_facts(trained, calibration, weights)


def test_a_packaged_classifier_is_read_as_that_of_a_run(saved, checkpoint, image):
    path, facts = saved
    found, run = load_packaged(path, facts), load_trained(checkpoint)
    torch.testing.assert_close(found.network(image), run.network(image), atol=0, rtol=0)
    assert (found.task, found.preprocessing) == (run.task, run.preprocessing)
    assert (found.calibration.scale, found.calibration.bias) == ([0.4], [-1.0])
    assert found.calibration.thresholds == {"image": {"MALIGNANT": 0.3}}


def test_weights_trained_since_have_no_calibration(saved):
    path, facts = saved
    state = torch.load(path, weights_only=True)
    torch.save({"model": {key: value + 0.01 for key, value in state.items()}}, path)
    found = load_packaged(path, facts)
    assert (found.calibration.scale, found.calibration.thresholds) == ([], {})
    assert found.provenance == {}


def test_weights_of_another_network_are_refused(saved):
    path, facts = saved
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(InputError, match="another network than the bundle's config defines"):
        load_packaged(path, facts)
    with pytest.raises(InputError, match="another network than the bundle's config defines"):
        load_weights(nn.Linear(3, 2), path)


@pytest.mark.parametrize("none", [None, "none", "None"])
def test_none_keeps_the_weights_there_are(none):
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    assert torch.equal(load_weights(network, none).weight, before)


def test_folders_of_the_machine_stay_there(checkpoint):
    trained = load_trained(checkpoint)
    trained.provenance["pretrained"] = "/home/somebody/runs/backbone.pt"
    assert classifier_facts(trained, Calibration(), b"")["provenance"] == {"seed": 0, "pretrained": "backbone.pt"}
