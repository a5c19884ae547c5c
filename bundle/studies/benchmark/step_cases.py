"""Whole training steps of MIRAM's forms and of its peers, to be counted and timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from miram.engines.pretraining import PreparePretrainingBatch
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.peers import PEERS, PeerSize
from studies.benchmark.step_cost import LossOfBatch, StepCost, step_cost, training_step_cost
from studies.benchmark.variants import make_variants

# width, feed-forward width, blocks and heads of ViT-Ti, ViT-S and ViT-B; the toy only shows that something runs
ENCODERS = {
    "tiny": (192, 768, 12, 3),
    "small": (384, 1536, 12, 6),
    "base": (768, 3072, 12, 12),
    "toy": (48, 96, 1, 2),
}


@dataclass(frozen=True)
class StepSettings:
    """What all steps of a benchmark have in common."""

    encoder: str  # a name of :data:`ENCODERS`
    precision: str  # "float32" or "bfloat16"
    batch_size: int  # images of a step
    device: torch.device  # where it runs
    image_size: Sequence[int] = (224, 224)  # the encoder's image, in pixels
    patch_size: Sequence[int] = (16, 16)  # in pixels
    mask_ratio: float = 0.75  # share of hidden patches

    def make_encoder(self) -> ViTEncoder:
        """A new encoder on the CPU."""
        width, mlp_dim, layers, heads = ENCODERS[self.encoder]
        dims = len(self.image_size)
        return ViTEncoder(1, self.image_size, self.patch_size, width, mlp_dim, layers, heads, spatial_dims=dims)


class TrainingCase:
    """
    A step as in training: downsampling and masking the batch, both passes, AdamW.

    Args:
        step: computes the loss from the output of `prepare`.
        label_shape: (C, *spatial) of a crop.
        prepare: turns crops into the step's arguments; None passes the crops.
    """

    def __init__(
        self,
        step: nn.Module,
        label_shape: Sequence[int],
        settings: StepSettings,
        prepare: PreparePretrainingBatch | None = None,
    ) -> None:
        self.step = step.to(settings.device).train()
        self.prepare = prepare
        self.device = settings.device
        self.label = torch.rand(settings.batch_size, *label_shape, device=self.device) * 4 - 2
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.step.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=fused)
        self.epoch = 0
        self.run: nn.Module = self.step

    def __call__(self) -> None:
        """Run one step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.run(*self.arguments()).backward()
        self.optimizer.step()

    def arguments(self) -> tuple[torch.Tensor, ...]:
        """A batch as the step takes it, with the masks of another epoch each time."""
        if self.prepare is None:
            return (self.label,)
        index = torch.arange(len(self.label))
        self.epoch += 1
        batch = {"label": self.label, "index": index, "epoch": torch.full_like(index, self.epoch)}
        image, label, (keep,), _ = self.prepare(batch, self.device)
        return image, label, keep


def make_case(name: str, settings: StepSettings) -> TrainingCase:
    """The step of a form of MIRAM, or of another library's MAE of the same size."""
    if name in PEERS:
        return TrainingCase(_peer(name, settings), [1, *settings.image_size], settings)
    network, loss = _network_and_loss(name, settings)
    masking = RandomMasking(settings.mask_ratio)
    prepare = PreparePretrainingBatch(masking, settings.image_size, network.encoder.num_tokens)
    step = LossOfBatch(network, loss, settings.precision)
    return TrainingCase(step, _label_shape(network, settings), settings, prepare)


def count_cost(name: str, settings: StepSettings) -> StepCost:
    """The exactly counted cost of an image in that step."""
    if name in PEERS:
        return step_cost(_peer(name, settings), lambda size: (torch.zeros(size, 1, *settings.image_size),))
    network, loss = _network_and_loss(name, settings)
    return training_step_cost(network, loss, _label_shape(network, settings), settings.mask_ratio, settings.precision)


def _network_and_loss(name: str, settings: StepSettings) -> tuple[MIRAM, MultiScaleReconstructionLoss]:
    encoder = settings.make_encoder()
    network = MIRAM(encoder, make_variants(encoder)[name])
    return network, MultiScaleReconstructionLoss(settings.image_size, settings.patch_size, network.scales)


def _peer(name: str, settings: StepSettings) -> nn.Module:
    return PEERS[name](PeerSize(settings.make_encoder(), settings.precision, settings.mask_ratio))


def _label_shape(network: MIRAM, settings: StepSettings) -> list[int]:
    return [1, *(round(size * max(1, *network.scales)) for size in settings.image_size)]
