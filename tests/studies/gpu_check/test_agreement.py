"""The same training steps on a CPU and on a GPU."""

from __future__ import annotations

import copy

import pytest
import torch

from studies.gpu_check import agreement
from studies.gpu_check.agreement import CPU, check_agreement, small_network, train
from studies.gpu_check.settings import TOY, CheckSettings


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_cpu_learns(monkeypatch):
    """
    Float32 without TF32: sums of some hundred terms in another order. Other kernels of the same CPU give the same
    losses and agree to 2.5e-6 of the largest change of a weight; a GPU's exponentials and roots may be off by more.
    """
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = small_network()
    before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    losses, weights = train(copy.deepcopy(network), CPU)
    gpu_losses, gpu_weights = train(copy.deepcopy(network), torch.device("cuda"))
    assert gpu_losses == pytest.approx(losses, rel=1e-5)
    assert (gpu_weights - weights).abs().max() < 1e-4 * (weights - before).abs().max()


def test_the_steps_that_are_compared_learn_something():
    network = small_network()
    before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    losses, weights = train(network, CPU)
    assert losses[-1] < losses[0]
    assert (weights - before).abs().max() > 1e-3


def test_a_difference_is_recorded_and_does_not_pass(tmp_path, monkeypatch):
    settings, rows = CheckSettings(CPU, tmp_path, sizes=TOY), []
    check_agreement(settings, rows.append, 60)
    assert [row["passed"] for row in rows] == [True] * 5
    monkeypatch.setattr("studies.gpu_check.agreement.train", lambda *_: ([next(losses)], None))
    losses, rows[:] = iter([1.0, 1.001, 1.0, 1.001]), []
    check_agreement(settings, rows.append, 60)
    assert [row["passed"] for row in rows[:2]] == [False, True]  # of float32, of bf16


def test_attention_without_a_flash_kernel_does_not_pass(monkeypatch):
    """A slower kernel is what torch takes without a word, here because ours would be given a mask."""
    monkeypatch.setattr(agreement, "ViTEncoder", lambda *_, **__: Masked())
    found = agreement._flash(CPU)
    assert not found["passed"]
    assert "kernel" in found["reason"]


class Masked(torch.nn.Module):
    def forward(self, image):
        tokens = image.flatten(2).requires_grad_()[:, :, None, :128].expand(-1, 2, 4, -1)
        mask = torch.zeros(4, 4, requires_grad=True)
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, mask)
