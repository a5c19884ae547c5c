"""The features of a folder of images in one file, and an image's nearest neighbours: what a script and a config run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics.pairwise import cosine_similarity

from miram.engines.devices import best_device, best_precision
from miram.errors import InputError
from miram.inference.embedding import Embedding, Source, embed, find_sources
from miram.inference.feature_files import check_output, read_feature
from miram.inference.tiles import load_tile_encoder
from miram.provenance.versions import provenance
from miram.readers.formats import read_image
from miram.visualize.contact_sheet import Case, plot_contact_sheet

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
        neighbours: see :func:`draw_neighbours`, also for the arguments after it; None draws
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


def draw_neighbours(
    name: str,
    sources: Sequence[Source],
    embedding: Embedding,
    features: str | os.PathLike[str],
    path: str | os.PathLike[str],
    count: int = 11,
) -> list[tuple[str, float]]:
    """
    Draw an image and its nearest neighbours, as the encoder sees them.

    Args:
        name: an image of the sources, or the path of another one.

    Returns:
        their names and similarities, the most similar first.

    Raises:
        InputError: if there is no such image, or the file holds only grids.
    """
    feature = next((one for one in ("mean", "token") if one in embedding.features), None)
    if feature is None or count < 1:
        raise InputError("neighbours need --features mean or token, and one neighbour or more")
    files, values = read_feature(Path(features), feature)
    by_name = {source.name: source.path for source in sources}
    if name in files:
        own, query = by_name[name], values[files.index(name)]
    elif Path(name).is_file():
        own = Path(name)
        query = embedding.describe([_window(own, embedding)])[feature][0]
    else:
        raise InputError(f"--neighbours: no image {name} in {features}, whose first is {files[0]}, and no such file")
    found = [(files[place], similarity) for place, similarity in nearest(values, query, count + 1)]
    found = [(other, similarity) for other, similarity in found if other != name][:count]
    cases = [Case(_window(own, embedding), None, "query", Path(name).name)]
    cases += [
        Case(_window(by_name[other], embedding), None, f"{similarity:.2f}", Path(other).name)
        for other, similarity in found
    ]
    note = f"Similarity: cosine of the feature {feature!r}, the mean of all {len(files)} images subtracted."
    plot_contact_sheet(cases, path, "Nearest neighbours", note)
    return found


def nearest(values: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """
    Places in `values` (N, D) and their cosine similarity to a query (D,), at most `count`, the most similar first.

    The mean of all features is subtracted before.
    """
    center = values.mean(axis=0)
    similarity = cosine_similarity(values - center, [query - center])[:, 0]
    return [(int(place), float(similarity[place])) for place in np.argsort(-similarity, kind="stable")[:count]]


def _window(path: Path, embedding: Embedding) -> np.ndarray:
    return embedding.cut(read_image(path, intensity=embedding.intensity).pixels)
