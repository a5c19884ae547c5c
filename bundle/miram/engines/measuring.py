"""What a pretraining measures on its images before the first step: their patches' components, and their texture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from miram.errors import InputError
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.networks.patches import patchify
from miram.networks.vit_encoder import ViTEncoder

logger = logging.getLogger(__name__)

Samples = Sequence[Mapping[str, Any]]


@torch.no_grad()
def whiten_embedding(
    encoder: ViTEncoder,
    dataset: Samples,
    power: float,
    seed: int = 0,
    num_images: int = 400,
    variance_floor: float = 1e-4,
) -> None:
    """
    Start the patch embedding from random mixtures of the principal components of images' patches.

    Most of the variance of a mammogram's patches is their brightness (96 % in patches of 8 pixels), so that random
    weights embed little else. Here component i has the gain (lambda_i + floor)^-power, lambda_i its variance: power 0.5
    whitens, as Coates, Ng and Lee do before learning from patches (AISTATS 2011); 0.25 goes half the way. Each number
    of a token then has mean 0 and variance 1 over these patches. Not in MIRAM's or MAE's papers.

    It changes weights at the start only: a checkpoint that is resumed replaces them. It depends on the seed and the
    images alone, so all processes get the same.

    Args:
        encoder: changed in place.
        dataset: samples whose "label" is (C, *spatial), an image in the network's units that is at least as large as
            the encoder's; some are taken at even steps.
        power: 0 leaves the encoder as it is.
        seed: of the mixtures.
        num_images: how many images are read.
        variance_floor: keeps noise in the last components from being amplified, in squared units of the images.

    Raises:
        InputError: if the power is negative.
    """
    if power < 0:
        raise InputError(f"whitened_embedding is {power}; give 0 (off), 0.25 (half-way) or 0.5 (white)")
    if not power:
        return
    samples = _some_samples(dataset, num_images)
    images = [torch.as_tensor(sample["label"], dtype=torch.float32) for sample in samples]
    mean, covariance = _moments(images, encoder)
    variances, components = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)
    gains = (variances + variance_floor) ** -power
    gains = gains / (variances * gains**2).mean().sqrt().clamp(min=1e-6)
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(encoder.hidden_size, len(mean), dtype=torch.float64, generator=generator) / len(mean) ** 0.5
    weight = mixture @ (components * gains).T
    embedding: Any = encoder.patch_embedding.patch_embeddings
    # patches have their channels last, convolutions first
    embedding.weight.copy_(weight.unflatten(1, (*encoder.patch_size, encoder.in_channels)).movedim(-1, 1))
    embedding.bias.copy_(-(weight @ mean))
    logger.info(
        "the patch embedding starts from the principal components of %d images' patches: the first has %.1f %% of the "
        "variance, and gets %.1f %% of it",
        len(images),
        100 * variances[-1] / variances.sum(),
        100 * variances[-1] * gains[-1] ** 2 / len(mean),
    )


def measure_textures(
    loss_function: MultiScaleReconstructionLoss,
    dataset: Samples,
    prepare_batch: Callable[..., tuple[Any, ...]],
    num_images: int = 400,
) -> None:
    """
    Standardise the texture that the network predicts, over some training images; nothing if it predicts none.

    It depends on the images alone, so all processes and a resumed run get the same.

    Args:
        loss_function: changed in place.
        dataset: as for :func:`whiten_embedding`.
        prepare_batch: makes the label (B, C, *spatial) with which the loss compares, its second result.
        num_images: how many images are read.
    """
    if loss_function.textures:
        samples = _some_samples(dataset, num_images)
        loss_function.measure_textures([prepare_batch(default_collate([sample]), "cpu")[1] for sample in samples])


def _some_samples(dataset: Samples, num_images: int) -> list[Mapping[str, Any]]:
    """Samples at even steps through a data set."""
    step = max(len(dataset) // num_images, 1)
    return [dataset[index] for index in range(0, len(dataset), step)[:num_images]]


def _moments(images: Iterable[torch.Tensor], encoder: ViTEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (P,) and covariance (P, P) of all patches of images (C, *spatial), reduced to the encoder's size."""
    count, total, products = 0, torch.zeros(1), torch.zeros(1)
    for image in images:
        small = downsample(image[None], encoder.img_size)
        patches = patchify(small, encoder.patch_size)[0].double()
        count, total, products = count + len(patches), total + patches.sum(0), products + patches.T @ patches
    mean = total / count
    return mean, products / count - mean[:, None] * mean
