import pytest
import torch
from monai.networks.nets import UNETR

from miram.networks.segmenter import ViTSegmenter
from miram.optimizers import layer_decay_groups

ENCODER = {
    "in_channels": 1,
    "img_size": [32, 32],
    "patch_size": [8, 8],
    "hidden_size": 24,
    "mlp_dim": 48,
    "num_layers": 4,
    "num_heads": 2,
}


def test_it_is_monais_unetr_where_that_has_the_sizes():
    encoder = ENCODER | {"patch_size": [16, 16], "num_layers": 12, "class_token": False, "pos_embed_type": "learnable"}
    own = ViTSegmenter(encoder, out_channels=2, feature_size=4).eval()
    sizes = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "feature_size": 4, "spatial_dims": 2, "qkv_bias": True}
    stock = UNETR(1, 2, (32, 32), **sizes).eval()
    names = {"encoder": "vit", "image_block": "encoder1", "out": "out"}
    names |= {f"skips.{step}": f"encoder{step + 2}" for step in range(3)}
    names |= {f"ups.{step}": f"decoder{step + 2}" for step in range(4)}
    state = {}
    for key, value in own.state_dict().items():
        name = next(name for name in names if key.startswith(f"{name}."))
        state[names[name] + key[len(name) :]] = value
    stock.load_state_dict(state, strict=True)
    image = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(own(image), stock(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_pixel_has_a_logit(dims):
    encoder = ENCODER | {"img_size": [16] * dims, "patch_size": [4] * dims, "spatial_dims": dims, "num_layers": 2}
    network = ViTSegmenter(encoder | {"hidden_size": 24}, out_channels=1, feature_size=4)
    assert network(torch.randn(2, 1, *[16] * dims)).shape == (2, 1, *[16] * dims)


def test_patches_that_are_no_power_of_two_are_refused():
    with pytest.raises(ValueError, match="2, 4, 8"):
        ViTSegmenter(ENCODER | {"img_size": [36, 36], "patch_size": [6, 6]})


def test_a_frozen_encoder_stays_in_evaluation_mode_without_gradients():
    network = ViTSegmenter(ENCODER, feature_size=4)
    network.freeze_encoder()
    network.train()
    assert not network.encoder.training
    assert network.out.training
    network(torch.randn(1, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())


def test_the_decoders_own_blocks_have_the_highest_rate():
    network = ViTSegmenter(ENCODER, feature_size=4)
    groups = layer_decay_groups(network, 4, 1.0, 0.05, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert {rates[id(parameter)] for parameter in network.skips.parameters()} == {1.0}
    assert rates[id(network.encoder.blocks[0].mlp.linear1.weight)] == 0.5**4
