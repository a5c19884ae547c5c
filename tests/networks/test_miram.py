import pytest
import torch

from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking, hidden_mask
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])


def test_gives_a_prediction_and_a_mask_for_each_scale(tiny_miram):
    output = tiny_miram(torch.randn(2, 1, 32, 32), KEEP)
    assert [tuple(p.shape) for p in output["predictions"]] == [(2, 16, 64), (2, 64, 64)]
    assert torch.equal(output["masks"][0], hidden_mask(KEEP, 16))
    assert output["masks"][1].sum() == 4 * output["masks"][0].sum()


@pytest.mark.parametrize(("decoders", "message"), [([], "at least one"), ([{"scale": 1}] * 2, "one decoder")])
def test_decoders_must_be_there_and_differ(tiny_encoder, decoders, message):
    arguments = [{"hidden_size": 16, "num_layers": 1, "num_heads": 2, **decoder} for decoder in decoders]
    with pytest.raises(ValueError, match=message):
        MIRAM(tiny_encoder, arguments)


@pytest.mark.parametrize("kind", ["exact", "nystromformer", "linformer", "performer", "windowed"])
def test_compiles_into_one_graph(tiny_encoder, kind):
    torch.compiler.reset()  # the graphs of other tests count towards a limit
    decoder = {"scale": 2, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "attention": kind}
    if kind == "linformer":
        decoder["attention_kwargs"] = {"proj_size": 16}
    if kind == "windowed":
        decoder["attention_kwargs"] = {"window_size": 4}
    network = MIRAM(tiny_encoder, [decoder]).eval()
    image = torch.randn(2, 1, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)  # fullgraph: a graph break is an error
    expected, got = network(image, KEEP), compiled(image, KEEP)
    torch.testing.assert_close(got["predictions"][0], expected["predictions"][0])


def test_trains_in_bf16_autocast(tiny_miram):
    label = torch.randn(2, 1, 64, 64)
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny_miram(torch.randn(2, 1, 32, 32), KEEP)
    loss = loss_function(output, label)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    idle = [name for name, p in tiny_miram.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


def _copy_block(ours, theirs):
    """Copy a transformers block into ours: three projections into one."""
    attention = theirs.attention
    for part in ("weight", "bias"):
        qkv = [getattr(getattr(attention, f"{name}_proj"), part) for name in "qkv"]
        getattr(ours.attn.qkv, part).data.copy_(torch.cat(qkv))
        pairs = [
            (ours.attn.out_proj, attention.o_proj),
            (ours.norm1, theirs.layernorm_before),
            (ours.norm2, theirs.layernorm_after),
            (ours.mlp.linear1, theirs.mlp.fc1),
            (ours.mlp.linear2, theirs.mlp.fc2),
        ]
        for mine, yours in pairs:
            getattr(mine, part).data.copy_(getattr(yours, part))


def _copy_mae(ours: MIRAM, theirs) -> None:
    """Copy the weights of transformers' `ViTMAEForPreTraining` into MIRAM with one decoder at 1x."""
    encoder, decoder = ours.encoder, ours.decoders[0]
    embeddings = theirs.vit.embeddings
    encoder.cls_token.data.copy_(embeddings.cls_token)
    encoder.patch_embedding.position_embeddings.data.copy_(embeddings.position_embeddings[:, 1:])
    encoder.patch_embedding.patch_embeddings.load_state_dict(embeddings.patch_embeddings.projection.state_dict())
    encoder.norm.load_state_dict(theirs.vit.layernorm.state_dict())
    decoder.embedding.load_state_dict(theirs.decoder.decoder_embed.state_dict())
    decoder.mask_token.data.copy_(theirs.decoder.mask_token)
    decoder.position_embeddings.data.copy_(theirs.decoder.decoder_pos_embed[:, 1:])
    decoder.norm.load_state_dict(theirs.decoder.decoder_norm.state_dict())
    decoder.head.load_state_dict(theirs.decoder.decoder_pred.state_dict())
    for mine, yours in zip(encoder.blocks, theirs.vit.layers, strict=True):
        _copy_block(mine, yours)
    for mine, yours in zip(decoder.blocks, theirs.decoder.decoder_layers, strict=True):
        _copy_block(mine, yours)


def test_one_decoder_at_1x_is_mae():
    """Predictions, loss and gradient agree with an independent MAE of the same weights and mask."""
    transformers = pytest.importorskip("transformers", reason="transformers (extra `test`) is not installed")
    config = transformers.ViTMAEConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=64, patch_size=8,
        num_channels=1, decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
        decoder_intermediate_size=128, layer_norm_eps=1e-5, norm_pix_loss=True, mask_ratio=0.75,
    )  # fmt: skip
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    encoder = ViTEncoder(1, 64, 8, 48, 96, 3, 4)
    ours = MIRAM(encoder, [{"scale": 1, "hidden_size": 32, "num_layers": 2, "num_heads": 4}]).eval()
    _copy_mae(ours, theirs)

    image = torch.randn(3, 1, 64, 64)
    keep = RandomMasking(0.75)(epoch=0, index=torch.arange(3), num_tokens=64)
    noise = hidden_mask(keep, 64).float()  # transformers keeps the patches of the lowest noise
    expected = theirs(image, noise=noise)
    output = ours(image, keep)
    # MAE adds 1e-6 to the variance: a floor of 1e-3 under the deviation is the same
    loss = MultiScaleReconstructionLoss((64, 64), (8, 8), [1], patch_std_floor=1e-3)(output, image)["loss"]
    torch.testing.assert_close(output["masks"][0], expected.mask.bool())
    torch.testing.assert_close(output["predictions"][0], expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss, expected.loss, atol=1e-4, rtol=1e-4)
    loss.backward()
    expected.loss.backward()
    mine = encoder.blocks[0].mlp.linear1.weight.grad
    torch.testing.assert_close(mine, theirs.vit.layers[0].mlp.fc1.weight.grad, atol=1e-4, rtol=1e-4)
