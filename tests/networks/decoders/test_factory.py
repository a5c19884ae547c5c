"""What every kind of decoder promises, and the factory."""

from __future__ import annotations

import itertools

import pytest
import torch

from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.networks.decoders.factory import KINDS, make_decoder, scales_of
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
every_kind = pytest.mark.parametrize("kind", KINDS)


def network_of(encoder, kind, scales=(1, 2), extra_outputs=0):
    return MIRAM(encoder, [{"kind": kind, "scale": scale, **SIZES} for scale in scales], extra_outputs)


def test_a_config_names_a_kind(tiny_encoder):
    assert [type(make_decoder(tiny_encoder, kind, **SIZES)) for kind in KINDS] == list(KINDS.values())
    assert type(make_decoder(tiny_encoder, **SIZES)) is KINDS["self_attention"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "convolution"}, "one of self_attention, cross_attention, sub_pixel, got 'convolution'"),
        ({"kind": "sub_pixel", "decode_ratio": 0.5}, "sub_pixel decoder has no argument decode_ratio; it has: scale"),
        ({"width": 512}, "self_attention decoder has no argument width; it has: scale, hidden_size"),
    ],
)
def test_the_factory_refuses(tiny_encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_decoder(tiny_encoder, **arguments)


@every_kind
def test_training_gives_every_parameter_a_gradient(tiny_encoder, kind):
    """Else DDP would wait for it: no search for unused parameters is needed. In bf16, too."""
    network = network_of(tiny_encoder, kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(torch.randn(2, 1, 32, 32), KEEP)
    loss = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])(output, torch.randn(2, 1, 64, 64))["loss"]
    loss.backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle
    assert loss.isfinite()


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_extra_outputs_come_behind_each_patchs_pixels(tiny_encoder, kind, training):
    """Made so that a token predicts 0 for pixels and 1 for what is behind them: so do all patches."""
    network = network_of(tiny_encoder, kind, extra_outputs=3).train(training)
    for decoder in network.decoders:
        torch.nn.init.zeros_(decoder.head.weight)
        decoder.head.bias.data.unflatten(0, (-1, 64 + 3))[:, 64:] = 1
    for prediction in network(torch.randn(2, 1, 32, 32), KEEP)["predictions"]:
        assert prediction[..., :64].eq(0).all()
        assert prediction[..., 64:].eq(1).all()
        assert prediction.shape[-1] == 67


@every_kind
def test_bf16_stays_near_float32(tiny_encoder, kind):
    network = network_of(tiny_encoder, kind)
    image = torch.randn(2, 1, 32, 32)
    expected = network(image, KEEP)["predictions"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = network(image, KEEP)["predictions"]
    for single, half in zip(expected, got, strict=True):  # bf16 has 8 bits: some roundings of 0.4 % each
        assert (half.float() - single).norm() < 0.03 * single.norm()


@pytest.mark.parametrize(("kind", "training"), [*itertools.product(KINDS, [True]), ("cross_attention", False)])
def test_compiles_into_one_graph(tiny_encoder, kind, training):
    torch.compiler.reset()  # the graphs of other tests count towards a limit
    network = network_of(tiny_encoder, kind).train(training)
    image = torch.randn(2, 1, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)  # fullgraph: a graph break is an error
    expected, got = network(image, KEEP), compiled(image, KEEP)
    for ours, theirs in zip(got["predictions"], expected["predictions"], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(torch.equal(a, b) for a, b in zip(got["masks"], expected["masks"], strict=True))


@every_kind
def test_what_may_count_is_what_counts_in_evaluation(tiny_encoder, kind):
    decoder = make_decoder(tiny_encoder, kind, scale=2, **SIZES).eval()
    mask = decoder(torch.randn(2, 5, 24), KEEP).mask
    assert torch.equal(mask, decoder.hidden(KEEP))
    assert mask.sum().item() == 2 * 12 * 4


@every_kind
def test_learns_to_reconstruct_a_fixed_batch(kind):
    """Two images are learnt by heart: the loss falls to a part of that of predicting each patch's mean, which is 1."""
    torch.manual_seed(0)
    encoder = ViTEncoder(1, 32, 8, 48, 96, 2, 2)
    sizes = {"hidden_size": 48, "num_layers": 2, "num_heads": 2}
    network = MIRAM(encoder, [{"kind": kind, "scale": scale, **sizes} for scale in (1, 2)])
    ramp = torch.linspace(-2, 2, 64)
    label = torch.stack((ramp[:, None] * ramp, ramp[:, None] + ramp.sin()))[:, None]
    image = torch.nn.functional.interpolate(label, size=(32, 32), mode="area")
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss_function(network.train()(image, KEEP), label)["loss"].backward()
        optimizer.step()
    losses = loss_function(network.eval()(image, KEEP), label)
    assert losses["loss_1x"] < 0.2
    assert losses["loss_2x"] < 0.2


def test_scales_are_in_the_order_of_the_decoders():
    assert scales_of([{"scale": 2, "kind": "sub_pixel"}, {"scale": 0.5}]) == [2, 0.5]
