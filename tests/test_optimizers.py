import pytest

from miram.optimizers import effective_learning_rate, weight_decay_groups


def test_the_rate_scales_with_the_global_batch():
    assert effective_learning_rate(1.5e-4, 512) == pytest.approx(3e-4)
    assert effective_learning_rate(1.5e-4, 64) == pytest.approx(1.5e-4 / 4)


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
