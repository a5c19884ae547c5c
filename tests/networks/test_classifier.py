import pytest
import torch
from monai.networks.nets import ViT
from torch import nn

from miram.errors import InputError
from miram.networks.classifier import AttentivePooling, ViTClassifier, stock_classifier
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content, load_classifier, read_scaling

ENCODER = {
    "in_channels": 1,
    "img_size": [32, 32],
    "patch_size": [8, 8],
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_layers": 2,
    "num_heads": 2,
}
TASK = {"name": "pathology", "type": "binary", "classes": ("BENIGN", "MALIGNANT")}


def classifier(pool="token", num_classes=3, **arguments):
    encoder = {**ENCODER, **arguments.pop("encoder", {})}
    network = ViTClassifier(encoder, num_classes, pool=pool, head_std=1, **arguments)
    nn.init.normal_(network.classification_head.bias)
    return network


@pytest.fixture
def image():
    return torch.randn(2, 1, 32, 32)


def test_each_pooling_is_what_it_says(image):
    for pool in ("token", "mean", "statistics", "attention"):
        network = classifier(pool).eval()
        tokens = network.encoder(image)
        expected = {
            "token": lambda tokens: tokens[:, 0],
            "mean": lambda tokens: tokens[:, 1:].mean(1),
            "statistics": lambda tokens: torch.cat(
                [tokens[:, 0], tokens[:, 1:].mean(1), tokens[:, 1:].std(1, correction=0), tokens[:, 1:].amax(1)], dim=1
            ),
            "attention": network.pooling,
        }[pool](tokens)
        torch.testing.assert_close(network.features(image), expected)
        logits = expected @ network.classification_head.weight.T + network.classification_head.bias
        torch.testing.assert_close(network(image), logits)


def test_without_a_class_token_the_mean_is_of_all_tokens(image):
    network = classifier("mean", encoder={"class_token": False}).eval()
    assert torch.equal(network.features(image), network.encoder(image).mean(1))
    assert classifier("statistics", encoder={"class_token": False}).eval()(image).shape == (2, 3)
    with pytest.raises(ValueError, match="needs an encoder with a class token"):
        classifier("token", encoder={"class_token": False})


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="token, mean, statistics, attention"):
        classifier("max")


def test_attentive_pooling_finds_the_token_that_its_query_asks_for():
    pooling = AttentivePooling(4, 1)
    with torch.no_grad():
        pooling.attention.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        pooling.attention.out_proj.weight.copy_(torch.eye(4))
        pooling.query.copy_(1e3 * torch.eye(4)[2])
    tokens = torch.eye(4)[None]
    torch.testing.assert_close(pooling(tokens), tokens[:, 2])


@pytest.mark.parametrize("feature_norm", [False, True])
@pytest.mark.parametrize("layer_norm_eps", [1e-5, 1e-3])
def test_a_stock_vit_gives_the_same_logits(feature_norm, layer_norm_eps, image):
    network = classifier(feature_norm=feature_norm, layer_norm_eps=layer_norm_eps)
    for _ in range(3):
        network(3 * torch.randn(8, 1, 32, 32))  # in training: running means and deviations
    network.eval()
    stock = stock_classifier(network)
    assert type(stock) is ViT
    torch.testing.assert_close(stock(image)[0], network(image), atol=1e-5, rtol=1e-5)


def test_other_poolings_are_not_a_stock_vit():
    with pytest.raises(InputError, match="a stock ViT pools the class token: train with pool 'token'"):
        stock_classifier(classifier("mean"))


def test_the_eps_of_layer_norms_reaches_every_norm_of_the_encoder():
    network = classifier(layer_norm_eps=1e-12)
    assert {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)} == {1e-12}


def test_features_are_standardised_without_parameters():
    network = classifier(feature_norm=True).train()
    normed = network.feature_norm(network.features(torch.randn(64, 1, 32, 32)))
    torch.testing.assert_close(normed.mean(0), torch.zeros(24), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(0, unbiased=False), torch.ones(24), atol=1e-3, rtol=0)
    assert list(network.feature_norm.parameters()) == []


def test_a_frozen_encoder_stays_as_in_evaluation(image):
    network = classifier(encoder={"drop_path_rate": 0.9}).train()
    network.freeze_encoder()
    network.train()
    assert not network.encoder.training
    assert network.classification_head.training
    assert torch.equal(network(image), network(image))  # stochastic depth rests
    network(image).sum().backward()
    assert {n for n, p in network.named_parameters() if p.grad is not None} == {
        "classification_head.weight",
        "classification_head.bias",
    }


@pytest.mark.parametrize("pool", ["token", "mean", "attention"])
def test_a_saved_classifier_gives_the_same_logits(pool, tmp_path, image):
    network = classifier(pool, num_classes=1, feature_norm=True, encoder={"drop_path_rate": 0.1}).eval()
    content = classifier_content(network, TASK, {"a_max": 65535}, {"seed": 0})
    save_weights_file(tmp_path / "model.pt", content)
    loaded, rest = load_classifier(tmp_path / "model.pt")
    assert not loaded.training
    assert torch.equal(loaded(image), network(image))
    assert rest["task"] == {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    assert (rest["preprocessing"], rest["provenance"]) == ({"a_max": 65535}, {"seed": 0})
    assert "state_dict" not in rest


def test_a_file_of_an_older_version_is_read_with_its_temperature(tmp_path):
    content = classifier_content(classifier(num_classes=1), TASK, {}, {}) | {"temperature": 2.0, "thresholds": None}
    save_weights_file(tmp_path / "model.pt", content)
    assert read_scaling(load_classifier(tmp_path / "model.pt")[1]) == ([0.5], [0.0])


@pytest.mark.parametrize(
    "damage",
    [{"temperature": 0.0}, {"temperature": "2"}, {"scale": [1.0]}, {"scale": [-1.0], "bias": [0.0]}, {"scale": 1.0}],
)
def test_a_damaged_calibration_is_refused(damage, tmp_path):
    save_weights_file(tmp_path / "model.pt", classifier_content(classifier(num_classes=1), TASK, {}, {}) | damage)
    with pytest.raises(InputError, match=r"model\.pt is damaged: its scale"):
        load_classifier(tmp_path / "model.pt")


def test_as_many_scales_as_classes_are_needed(tmp_path):
    content = classifier_content(classifier(num_classes=1), TASK, {}, {}) | {"scale": [1.0] * 3, "bias": [0.0] * 3}
    save_weights_file(tmp_path / "model.pt", content)
    with pytest.raises(InputError, match="3 scales of logits"):
        load_classifier(tmp_path / "model.pt")


def test_the_prior_correction_is_in_the_logits_of_the_file_alone(tmp_path, image):
    network = classifier(num_classes=3).eval()
    before = network(image)
    save_weights_file(tmp_path / "model.pt", classifier_content(network, TASK, {}, {}, [-1.0, 0.0, 2.0]))
    loaded, _ = load_classifier(tmp_path / "model.pt")
    torch.testing.assert_close(loaded(image), before + torch.tensor([-1.0, 0.0, 2.0]))
    assert torch.equal(network(image), before)


def test_what_is_no_classifier_is_refused(tmp_path):
    torch.save({"network_def": {}}, tmp_path / "backbone.pt")
    with pytest.raises(InputError, match=r"backbone\.pt is not a classifier: it lacks .*task"):
        load_classifier(tmp_path / "backbone.pt")


def test_every_trained_parameter_gets_a_gradient(image):
    """DDP waits for each of them."""
    for pool in ("token", "mean", "statistics", "attention"):
        network = classifier(pool)
        network(image).square().sum().backward()
        assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
