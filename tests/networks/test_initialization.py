import math

import torch

from miram.networks.miram import MIRAM


def test_weights_follow_mae(tiny_miram: MIRAM):
    encoder = tiny_miram.encoder
    bound = math.sqrt(6 / (24 + 64))  # Xavier-uniform of a linear layer from 8 x 8 pixels to 24
    weight = encoder.patch_embedding.patch_embeddings.weight
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.95 * bound
    assert not encoder.blocks[0].mlp.linear1.bias.any()
    assert torch.equal(encoder.norm.weight, torch.ones(24))
    assert 0.01 < encoder.cls_token.std() < 0.03
    assert 0.005 < tiny_miram.decoders[0].mask_token.std() < 0.04
    assert not tiny_miram.decoders[0].position_embeddings.requires_grad
