"""The features of a folder of images in one file, and an image's nearest neighbours: what a script and a config run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from miram.engines.devices import best_device, best_precision
from miram.errors import InputError
from miram.handlers.neighbours import draw_neighbours
from miram.inference.embedding import Embedding, embed, find_sources
from miram.inference.feature_files import check_output
from miram.inference.tiles import load_tile_encoder
from miram.provenance.versions import provenance

logger = logging.getLogger(__name__)


def embed_images(
    input_dir: str | os.PathLike[str] | None,
    backbone: str | os.PathLike[str],
    output: str | os.PathLike[str],
    features: Sequence[str] = ("token", "mean"),
    window: str = "center",
    field_of_view: Sequence[int] | None = None,
    num_heads: int | None = None,
    intensity: str = "stored",
    batch_size: int = 32,
    device: torch.device | str | None = None,
    precision: str | None = None,
    neighbours: str | None = None,
    num_neighbours: int = 11,
    neighbours_png: str | os.PathLike[str] = "neighbours.png",
) -> None:
    """
    Compute what is missing, then draw the neighbours.

    Args:
        input_dir: a prepared folder, or any folder of images.
        backbone: see :func:`miram.inference.tiles.load_tile_encoder`, also for `field_of_view` and `num_heads`.
        output: see :func:`miram.inference.embedding.embed`, also for `batch_size`.
        features: see :class:`miram.inference.embedding.Embedding`, also for `window` and `intensity`.
        device: None is the first GPU, or the CPU.
        precision: of the encoder; None is the best one of the device.
        neighbours: see :func:`miram.handlers.neighbours.draw_neighbours`, also for the arguments after it; None draws
            none.

    Raises:
        InputError: if an argument is missing or wrong, or no image can be described.
    """
    if input_dir is None:
        raise InputError("give --input: a prepared folder, or any folder of images")
    check_output(output)
    sources = find_sources(input_dir)
    device = device or best_device()
    precision = precision or best_precision(device)
    encoder = load_tile_encoder(backbone, device, field_of_view, pool="mean", num_heads=num_heads, precision=precision)
    embedding = Embedding(encoder, features, window, intensity)
    problems = embed(sources, embedding, output, provenance(backbone=Path(backbone).name), batch_size)
    logger.info("%d images in %s, %d left out", len(sources) - len(problems), output, len(problems))
    if neighbours:
        draw_neighbours(neighbours, sources, embedding, output, neighbours_png, num_neighbours)
        logger.info("neighbours: %s", neighbours_png)
