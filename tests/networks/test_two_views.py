import pytest
import torch

from miram.networks.two_views import TwoViewNetwork


def test_both_views_pass_the_same_encoder_and_projector(tiny_encoder):
    network = TwoViewNetwork(tiny_encoder, [16, 12]).eval()
    view = torch.randn(3, 1, 32, 32)
    first, second = network(view, view)
    assert first.shape == (3, 12)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, network.projector(tiny_encoder(view)[:, 0]))


def test_every_trained_weight_gets_a_gradient(tiny_encoder):
    network = TwoViewNetwork(tiny_encoder, [16])
    first, second = network(torch.randn(3, 1, 32, 32), torch.randn(3, 1, 32, 32))
    (first * second).sum().backward()
    unused = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert unused == []


def test_a_projector_needs_a_layer(tiny_encoder):
    with pytest.raises(ValueError, match="at least one layer"):
        TwoViewNetwork(tiny_encoder, [])
