"""The nearest neighbours of an image among the features of a file, as a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miram.errors import InputError
from miram.inference.embedding import Embedding, Source, nearest
from miram.inference.feature_files import read_feature
from miram.readers.formats import read_image
from miram.visualize.contact_sheet import Case, plot_contact_sheet


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


def _window(path: Path, embedding: Embedding) -> np.ndarray:
    return embedding.cut(read_image(path, intensity=embedding.intensity).pixels)
