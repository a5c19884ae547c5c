"""The counts agree with counting by hand and with a step that really runs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.step_cost import step_cost, training_step_cost

LOSS = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])


class TwoLayers(nn.Module):
    """A loss of two linear layers, 8 to 16 to 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.second(self.first(x).relu()).sum()


def test_operations_and_saved_bytes_are_those_counted_by_hand():
    cost = step_cost(TwoLayers(), lambda size: (torch.zeros(size, 8),))
    # forward, and the gradients of the weights and of what lies between them; the input needs none
    assert cost.flops == 2 * (8 * 16 * 2 + 16 * 4 * 3)
    # the input, and the output of relu, which it shares with the second layer
    assert cost.saved_bytes == 4 * (8 + 16)


def test_fused_attention_counts_with_its_products():
    """Of N tokens: two products forward; backward those of its four gradients, and the weights computed again."""

    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x).sum()

    cost = step_cost(Attention(), lambda size: (torch.zeros(size, 2, 10, 4, requires_grad=True),))
    assert cost.flops == 7 * 2 * 2 * 10 * 10 * 4


def test_a_step_of_fake_tensors_saves_what_a_real_one_saves(tiny_miram):
    counted = training_step_cost(tiny_miram, LOSS, (1, 64, 64), precision="float32").saved_bytes
    saved = {}
    own = {p.untyped_storage()._cdata for p in tiny_miram.parameters()}

    def keep(tensor):
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    sums = []
    for size in (2, 3):
        saved.clear()
        keeps = torch.arange(4).repeat(size, 1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = tiny_miram(torch.randn(size, 1, 32, 32), keeps)
            LOSS(output, torch.randn(size, 1, 64, 64))
        sums.append(sum(storage.nbytes() for data, storage in saved.items() if data not in own))
    assert counted == sums[1] - sums[0]


def test_the_network_is_left_as_it_was(tiny_miram):
    tiny_miram.eval()
    before = copy.deepcopy(tiny_miram.state_dict())
    training_step_cost(tiny_miram, LOSS, (1, 64, 64))
    assert not tiny_miram.training
    assert all(parameter.grad is None for parameter in tiny_miram.parameters())
    assert all(torch.equal(value, before[name]) for name, value in tiny_miram.state_dict().items())


def test_bf16_saves_less_and_costs_the_same_operations(tiny_miram):
    single = training_step_cost(tiny_miram, LOSS, (1, 64, 64), precision="float32")
    half = training_step_cost(tiny_miram, LOSS, (1, 64, 64), precision="bfloat16")
    assert half.flops == single.flops
    assert half.saved_bytes < 0.8 * single.saved_bytes


def test_activation_checkpointing_trades_operations_for_memory():
    """A block's forward pass, a third of its operations, runs again up to its last layer, a third of them."""
    loss = MultiScaleReconstructionLoss((32, 32), (8, 8), [1])
    costs = []
    for checkpointing in (False, True):
        encoder = ViTEncoder(1, 32, 8, 48, 192, 8, 2, activation_checkpointing=checkpointing)
        network = MIRAM(encoder, [{"scale": 1, "hidden_size": 48, "num_layers": 4, "num_heads": 2}])
        costs.append(training_step_cost(network, loss, (1, 32, 32)))
    plain, checkpointed = costs
    assert checkpointed.flops / plain.flops == pytest.approx(
        1 + (2 / 3) / 3, rel=0.02
    )  # embedding, head and attention count little
    assert checkpointed.saved_bytes < 0.3 * plain.saved_bytes
