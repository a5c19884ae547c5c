"""
Operations and saved activations of a training step, counted exactly and without data.

The step runs on fake tensors, which have shapes but no values: nothing is computed, and the counts are the same on
every machine. `scripts/benchmark.py` measures times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from miram.engines.steps import autocast
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking
from miram.networks.miram import MIRAM

# torch 2.13 has no formula for the CPU's fused attention and would not count it.
_FUSED_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, q, k, v, *_, **__: sdpa_backward_flop_count(gradient, q, k, v)
    ),
}


@dataclass(frozen=True)
class StepCost:
    """The cost of an additional image in a batch, without weights and their copies in another precision."""

    # floating-point operations of the forward and backward pass (a multiplication and an addition are two): matrix
    # products, convolutions and attention, as torch's `FlopCounterMode` counts them
    flops: int
    saved_bytes: int  # activations that the forward pass keeps for the backward pass, each storage counted once


class LossOfBatch(nn.Module):
    """
    Network and loss in one module, whose output a training step differentiates.

    Args:
        loss_function: the loss, computed in float32 as the training step does.
    """

    def __init__(
        self, network: MIRAM, loss_function: MultiScaleReconstructionLoss, precision: str = "bfloat16"
    ) -> None:
        super().__init__()
        self.network = network
        self.loss_function = loss_function
        self.precision = precision

    def forward(self, image: torch.Tensor, label: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: images (B, C, *spatial), labels at the largest scale's size, visible patches (B, V)."""
        with autocast(image.device, self.precision):
            output = self.network(image, keep)
        return self.loss_function(output, label)["loss"]


def training_step_cost(
    network: MIRAM,
    loss_function: MultiScaleReconstructionLoss,
    label_shape: Sequence[int],
    mask_ratio: float = 0.75,
    precision: str = "bfloat16",
) -> StepCost:
    """
    Count the cost of an image in a pretraining step.

    Args:
        network: on any device; it is neither run nor changed.
        loss_function: a loss with the scales of its decoders.
        label_shape: (C, *spatial) of a crop in a batch, at least the largest scale's size.
        mask_ratio: share of hidden patches.
        precision: "float32" or "bfloat16"; float16 costs the same as bfloat16.

    Returns:
        operations and bytes per image.
    """
    encoder = network.encoder
    visible = RandomMasking(mask_ratio).num_visible(encoder.num_tokens)

    def batch(size: int) -> tuple[torch.Tensor, ...]:
        image = torch.zeros(size, encoder.in_channels, *encoder.img_size)
        return image, torch.zeros(size, *label_shape), torch.zeros(size, visible, dtype=torch.int64)

    return step_cost(LossOfBatch(network, loss_function, precision), batch)


def step_cost(step: nn.Module, batch: Callable[[int], tuple[torch.Tensor, ...]]) -> StepCost:
    """
    Count the cost of an image in a training step of any network.

    Args:
        step: computes the loss of a batch; it is counted in training mode.
        batch: makes the arguments for a given number of images; their values do not matter.

    Returns:
        operations and bytes per image: the difference between batches of three and two images.
    """
    modes = {module: module.training for module in step.modules()}
    step.train()
    try:
        (flops, kept), (more_flops, more_kept) = (_count(step, batch, size) for size in (2, 3))
    finally:
        for module, training in modes.items():
            module.training = training
    return StepCost(more_flops - flops, more_kept - kept)


def _count(step: nn.Module, batch: Callable[[int], tuple[torch.Tensor, ...]], size: int) -> tuple[int, int]:
    """Operations and saved bytes of a batch."""
    fake = FakeTensorMode()
    both = _ForwardAndBackward(step)
    tensors = {**dict(both.named_parameters()), **dict(both.named_buffers())}
    state: dict[str, torch.Tensor] = {name: fake.from_tensor(tensor.cpu()) for name, tensor in tensors.items()}
    with fake, FlopCounterMode(display=False, custom_mapping=_FUSED_ATTENTION) as counter:
        functional_call(both, state, batch(size))
    own = {tensor.untyped_storage()._cdata for tensor in state.values()}
    return counter.get_total_flops(), sum(kept.nbytes() for key, kept in both.saved.items() if key not in own)


class _ForwardAndBackward(nn.Module):
    """Both passes as one module, since checkpointed blocks run again in the backward pass with the same weights."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.saved: dict[int, torch.UntypedStorage] = {}  # kept alive: numbers of freed storages are reused

    def forward(self, *batch: torch.Tensor) -> None:
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            loss = self.step(*batch)
        loss.backward()

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.saved[storage._cdata] = storage
        return tensor
