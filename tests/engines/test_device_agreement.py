"""The same training steps on a CPU and on a GPU."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from miram.engines import PreparePretrainingBatch, TrainingStep
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking

STEPS = 3


def train(network, device):
    """Three steps on the same batches; the losses and the weights."""
    network = network.to(device)
    # not Adam: it divides gradients that are rounding alone, as of the keys' biases, by their own size
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=device.type == "cuda")
    engine = SimpleNamespace(
        prepare_batch=PreparePretrainingBatch(RandomMasking(0.75), (32, 32), 16),
        state=SimpleNamespace(device=device, iteration=0, epoch_length=STEPS),
        non_blocking=False,
        network=network,
        optimizer=optimizer,
        loss_function=MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2]),
        inferer=lambda image, net, *args: net(image, *args),
        fire_event=lambda event: None,
    )
    step, losses = TrainingStep(clip_grad_norm=1.0), []
    generator = torch.Generator().manual_seed(0)
    for engine.state.iteration in range(1, STEPS + 1):
        batch = {"label": torch.randn(8, 1, 64, 64, generator=generator), "index": torch.arange(8)}
        batch["epoch"] = torch.full((8,), engine.state.iteration)
        losses.append(step(engine, batch)[0]["loss"].item())
        assert engine.state.skipped.item() == 0
    return losses, torch.cat([p.detach().cpu().flatten() for p in network.parameters()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_cpu_learns(tiny_miram, monkeypatch):
    """
    Float32 without TF32: sums of some hundred terms in another order. Other kernels of the same CPU give the same
    losses and agree to 2.5e-6 of the largest change of a weight; a GPU's exponentials and roots may be off by more.
    """
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.cat([p.detach().flatten().clone() for p in tiny_miram.parameters()])
    losses, weights = train(copy.deepcopy(tiny_miram), torch.device("cpu"))
    gpu_losses, gpu_weights = train(copy.deepcopy(tiny_miram), torch.device("cuda"))
    assert gpu_losses == pytest.approx(losses, rel=1e-5)
    assert (gpu_weights - weights).abs().max() < 1e-4 * (weights - before).abs().max()


def test_the_steps_that_are_compared_learn_something(tiny_miram):
    before = torch.cat([p.detach().flatten().clone() for p in tiny_miram.parameters()])
    losses, weights = train(copy.deepcopy(tiny_miram), torch.device("cpu"))
    assert losses[-1] < losses[0]
    assert (weights - before).abs().max() > 1e-3
