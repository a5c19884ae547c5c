import pytest
import torch

from miram.errors import InputError
from miram.networks.classifier import ViTClassifier
from miram.optimizers import (
    annealing_start,
    effective_learning_rate,
    layer_decay_groups,
    pretraining_schedule,
    warmup_iterations,
    weight_decay_groups,
)


def test_the_rate_scales_with_the_global_batch():
    assert effective_learning_rate(1.5e-4, 512) == pytest.approx(3e-4)
    assert effective_learning_rate(1.5e-4, 64) == pytest.approx(1.5e-4 / 4)


@pytest.mark.parametrize(("warmup", "epochs", "expected"), [(40, 400, 280), (2, 4, 14), (0, 1, 0), (0.5, 20, 4)])
def test_a_warm_up_that_leaves_room_for_a_decay_is_as_the_recipe_says(warmup, epochs, expected, caplog):
    assert warmup_iterations(warmup, epochs, 7) == expected
    assert caplog.text == ""


@pytest.mark.parametrize(("warmup", "epochs", "expected"), [(40, 20, 14), (3, 5, 3), (1, 1, 0)])
def test_a_warm_up_of_more_than_half_of_the_run_becomes_a_tenth_and_that_is_said(warmup, epochs, expected, caplog):
    assert warmup_iterations(warmup, epochs, 7) == expected
    total = 7 * epochs
    assert f"warmup_epochs {warmup} is too long for {epochs} epochs" in caplog.text
    assert f"over {expected} of {total} iterations" in caplog.text


def rates(schedule, epochs, annealing=2, **shares):
    """Epoch by epoch, of an optimizer whose rate is 1, in epochs of 10 steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    shares = {"constant_share": 0.25, "final_share": 0.01, **shares}
    scheduler = pretraining_schedule(optimizer, schedule, 10, epochs, 1, 2, annealing, **shares)
    found = []
    for step in range(10 * epochs + 1):
        found += [scheduler.get_last_lr()[0]] * (step % 10 == 0)
        optimizer.step()
        scheduler.step()
    return found


def test_the_infinite_schedule_warms_up_cools_down_stays_and_anneals():
    expected = [0, 1, 0.625, 0.25, 0.25, 0.25, 0.05, 0.01]
    assert rates("infinite", 7) == pytest.approx(expected)


def test_a_longer_run_has_the_same_rates_until_the_annealing_begins():
    short, long = rates("infinite", 7), rates("infinite", 12)
    assert long[: annealing_start("infinite", 7, 2) + 1] == short[:6]
    assert long[5:11] == [0.25] * 6
    assert rates("infinite", 7, annealing=0)[-1] == 0.25


def test_the_cosine_falls_to_zero():
    assert rates("cosine", 5) == pytest.approx([0, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0])
    assert annealing_start("cosine", 5, 2) is None


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("linear", {"epochs": 7}, "schedule is 'linear'; give cosine or infinite"),
        ("infinite", {"epochs": 4}, "are more than max_epochs 4"),
        ("infinite", {"epochs": 7, "annealing": 0.5}, "annealing_epochs is 0.5; give a whole number"),
        ("infinite", {"epochs": 7, "annealing": 8}, "annealing_epochs is 8"),
        ("infinite", {"epochs": 7, "constant_share": 0.001}, "constant_share is 0.001 and final_share 0.01"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedule, arguments, message):
    with pytest.raises(InputError, match=message):
        rates(schedule, **arguments)


def test_only_matrices_decay_and_every_trained_parameter_is_in_one_group(tiny_miram):
    decay, no_decay = weight_decay_groups(tiny_miram, 0.05)
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in tiny_miram.named_parameters()}
    plain = {names[id(p)] for p in no_decay["params"]}
    assert {"encoder.cls_token", "decoders.0.mask_token", "encoder.norm.weight"} <= plain
    assert all(p.ndim >= 2 for p in decay["params"])
    together = {id(p) for group in (decay, no_decay) for p in group["params"]}
    trained = {id(p) for p in tiny_miram.parameters() if p.requires_grad}
    assert together == trained
    assert len(decay["params"]) + len(no_decay["params"]) == len(trained)


@pytest.fixture
def classifier():
    sizes = {"in_channels": 1, "img_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 3}
    return ViTClassifier({**sizes, "num_heads": 2, "pos_embed_type": "learnable"}, 2, pool="attention")


def test_the_rate_falls_from_layer_to_layer(classifier):
    groups = layer_decay_groups(classifier, 3, 1e-3, 0.05, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    rate = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    expected = {
        "classification_head.weight": 1e-3,
        "pooling.query": 1e-3,
        "encoder.norm.bias": 1e-3,
        "encoder.blocks.2.attn.qkv.weight": 1e-3 / 2,
        "encoder.blocks.0.norm1.weight": 1e-3 / 8,
        "encoder.patch_embedding.position_embeddings": 1e-3 / 16,
        "encoder.cls_token": 1e-3 / 16,
    }
    assert {name: rate[name] for name in expected} == pytest.approx(expected)
    assert groups[0]["lr"] == max(group["lr"] for group in groups) == 1e-3
    assert rate.keys() == {name for name, p in classifier.named_parameters() if p.requires_grad}


def test_layers_keep_the_rule_of_weight_decay(classifier):
    groups = layer_decay_groups(classifier, 3, 1e-3, 0.05)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    free = {"pooling.query", "encoder.cls_token", "encoder.patch_embedding.position_embeddings"}
    assert all(decay[name] == 0 for name in free | {"classification_head.bias", "encoder.norm.weight"})
    assert decay["classification_head.weight"] == decay["encoder.blocks.0.mlp.linear1.weight"] == 0.05


def test_a_frozen_encoder_is_in_no_group(classifier):
    classifier.freeze_encoder()
    groups = layer_decay_groups(classifier, 3, 1e-3, 0.05)
    assert {group["lr"] for group in groups} == {1e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(classifier.pooling.parameters())) + 2


@pytest.mark.parametrize("layer_decay", [0, 1.1])
def test_layer_decay_is_a_factor(layer_decay, classifier):
    with pytest.raises(ValueError, match="layer_decay"):
        layer_decay_groups(classifier, 3, 1e-3, 0.05, layer_decay)
