import itertools

import numpy as np
import pytest
import torch

from miram.errors import InputError
from miram.visualize.attention import attention_maps, explicit_attention

from ..classifier_case import as_input, make_classifier, make_crop

MALIGNANT = torch.tensor([[1.0]])


def test_the_explicit_path_gives_the_same_logits_and_the_softmax_of_queries_and_keys():
    network = make_classifier()
    image = torch.randn(2, 1, 16, 16)
    inputs = []
    network.encoder.blocks[1].attn.register_forward_pre_hook(lambda layer, args: inputs.append(args[0]))
    with explicit_attention(network.encoder) as attentions:
        logits = network(image)
    torch.testing.assert_close(logits, network(image), atol=1e-6, rtol=0)
    layer = network.encoder.blocks[1].attn
    query, key, _ = layer.qkv(inputs[0]).reshape(2, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
    expected = (query @ key.transpose(-1, -2) / 12**0.5).softmax(dim=-1)
    torch.testing.assert_close(attentions[1], expected, atol=1e-6, rtol=1e-5)


def test_the_fused_kernel_is_back_afterwards_also_after_an_error():
    encoder = make_classifier().encoder
    with pytest.raises(RuntimeError), explicit_attention(encoder):
        raise RuntimeError
    assert [block.attn.use_flash_attention for block in encoder.blocks] == [True, True]
    assert not any(block.attn.drop_weights._forward_hooks for block in encoder.blocks)


def test_rollout_multiplies_mean_attention_and_residual():
    network = make_classifier()
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad(), explicit_attention(network.encoder) as attentions:
        network(image)
    first, second = ((attention.mean(1)[0] + torch.eye(17)) / 2 for attention in attentions)
    found = attention_maps(network, network.encoder, image, MALIGNANT, "attention")
    torch.testing.assert_close(found[0], (second @ first)[0, 1:].reshape(4, 4), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pool", ["token", "mean", "attention"])
def test_relevance_finds_the_square_that_makes_an_image_malignant(pool):
    network = make_classifier(pool=pool, steps=150)
    rng = np.random.default_rng(5)
    places = list(itertools.product(range(4), range(4)))
    image = as_input([make_crop(True, place, rng) for place in places])
    assert network(image).min() > 0
    maps = attention_maps(network, network.encoder, image, MALIGNANT, from_class_token=pool == "token")
    assert maps.shape == (16, 4, 4)
    assert maps.min() >= 0
    found = [divmod(int(index), 4) for index in maps.flatten(1).argmax(dim=1)]
    # one of 16 by chance
    assert sum(one == other for one, other in zip(found, places, strict=True)) >= 14


def test_an_unknown_map_is_refused():
    network = make_classifier()
    with pytest.raises(InputError, match="relevance, attention"):
        attention_maps(network, network.encoder, torch.zeros(1, 1, 16, 16), MALIGNANT, "saliency")
