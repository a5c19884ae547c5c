import math

import pytest
import torch
from monai.networks.nets import ViT

from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

SMALL = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
SIZES = {2: (32, 8), 3: (16, 8)}


def make(spatial_dims=2, **arguments):
    size, patch = SIZES[spatial_dims]
    return ViTEncoder(1, size, patch, spatial_dims=spatial_dims, **SMALL, **arguments)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_equals_the_stock_vit_without_a_class_token(spatial_dims):
    encoder = make(spatial_dims, class_token=False).eval()
    stock = ViT(**encoder.network_def).eval()
    stock.load_state_dict(encoder.state_dict(), strict=True)
    image = torch.randn(2, 1, *[SIZES[spatial_dims][0]] * spatial_dims)
    # two attention kernels that add in another order: float32 rounding
    torch.testing.assert_close(encoder(image), stock(image)[0], atol=1e-5, rtol=1e-5)


def test_equals_the_stock_classifier_with_a_class_token():
    encoder = make().eval()
    stock = ViT(**{**encoder.network_def, "classification": True, "num_classes": 3, "post_activation": ""}).eval()
    missing, unexpected = stock.load_state_dict(encoder.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("classification_head.") for key in missing)
    image = torch.randn(2, 1, 32, 32)
    logits = stock.classification_head(encoder(image)[:, 0])
    torch.testing.assert_close(logits, stock(image)[0], atol=1e-5, rtol=1e-5)


def test_hidden_patches_do_not_reach_the_tokens():
    encoder = make().eval()
    keep = torch.tensor([[0, 5, 9]])
    image = torch.randn(1, 1, 32, 32)
    other = image.clone()
    other[..., 8:16, 0:8] += 100  # patch 4 is hidden
    assert torch.equal(encoder(image, keep), encoder(other, keep))
    other[..., 8:16, 8:16] += 100  # patch 5 is visible
    assert not torch.allclose(encoder(image, keep), encoder(other, keep))


def test_keeping_every_patch_changes_nothing():
    encoder = make().eval()
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(encoder(image, torch.arange(16)[None]), encoder(image), atol=1e-6, rtol=1e-6)


def test_activation_checkpointing_changes_neither_output_nor_gradient():
    plain = make()
    saving = make(activation_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 1, 32, 32)
    for encoder in (plain, saving):
        encoder(image).square().sum().backward()
    gradients = [encoder.blocks[0].mlp.linear1.weight.grad for encoder in (plain, saving)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-6)


def test_stochastic_depth_grows_to_the_last_block_and_rests_in_evaluation():
    encoder = make(drop_path_rate=0.5)
    assert isinstance(encoder.blocks[0].drop_path, torch.nn.Identity)
    assert encoder.blocks[-1].drop_path.drop_prob == 0.5
    image = torch.randn(4, 1, 32, 32)
    assert not torch.equal(encoder(image), encoder(image))
    encoder.eval()
    assert torch.equal(encoder(image), encoder(image))


def test_runs_in_bf16_autocast_near_fp32():
    encoder = make().eval()
    image = torch.randn(2, 1, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(image, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    full = encoder(image, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    # bf16 keeps 8 bits; tokens have unit variance
    assert (half.float() - full).square().mean().sqrt() < 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": 30}, "not a multiple"),
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"hidden_size": 26}, "sincos"),
        ({"spatial_dims": 3, "hidden_size": 32}, "sincos"),
        ({"num_heads": 5}, "divisible"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViTEncoder(**{"in_channels": 1, "img_size": 32, "patch_size": 8, **SMALL, **arguments})


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
