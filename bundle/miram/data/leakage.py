"""Leakage between splits: the same patient, image file, or an image that looks the same by its perceptual hash."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from miram.data.datalist import FILE_NAME, SPLITS, Item, read_datalist
from miram.errors import InputError
from miram.files import write_text
from miram.jobs import available_cores
from miram.progress import progress_bar
from miram.readers.formats import read_image
from miram.transforms.crops import resize_crop

logger = logging.getLogger(__name__)

CACHE = ".prepare/hashes.json"


def check_leakage(
    dataset_dir: str | os.PathLike[str], allow: str | Sequence[str] | None = None, radius: int = 24
) -> dict[str, Any]:
    """
    Refuse a data list with a patient in two splits, or with images in two splits that look the same.

    Images are compared by their perceptual hashes. The prepare scripts write the hash of each source image into the
    data list; if an item has none, all crops are hashed once, and the hashes are kept in `.prepare/hashes.json`.

    Args:
        allow: "images" accepts images that look the same, with a warning. A patient in two splits is never accepted.
        radius: how many of 255 bits may differ between the hashes of images that look the same; docs/reliability.md
            says how it was chosen.

    Returns:
        "allowed", and the number of pairs under "similar_images", for the provenance.

    Raises:
        InputError: if splits share something that is not allowed, or `allow` names anything but images.
    """
    allowed = _parse(allow)
    path = Path(dataset_dir) / FILE_NAME
    pairs = _alike(Path(dataset_dir), read_datalist(dataset_dir), radius)  # refuses shared patients and image files
    if pairs and "images" not in allowed:
        (split, one), (other_split, other) = pairs[0]
        raise InputError(
            f"{path}: {len(pairs)} pairs of images in two splits look the same, such as {one!r} ({split}) and "
            f"{other!r} ({other_split}); results would leak. Give both the same patient and prepare again, remove "
            "one, or if they are different images, --allow_leakage images"
        )
    if pairs:
        logger.warning("leakage allowed: %d pairs of images in two splits of %s look the same", len(pairs), path)
    return {"allowed": allowed, "similar_images": len(pairs)}


def groups_to_keep_together(dataset_dir: str | os.PathLike[str], items: Sequence[Item], radius: int = 24) -> list[int]:
    """
    Number the groups of items that must not be split: those of one patient, and of patients whose images look the same.

    Args:
        radius: as in :func:`check_leakage`.

    Returns:
        the group of each item.
    """
    folder = Path(dataset_dir)
    given = {"given": list(items)}
    hashes = _given_hashes(folder / FILE_NAME, given) or _computed_hashes(folder, given)
    patients = {name: node for node, name in enumerate(dict.fromkeys(item["patient"] for item in items))}
    codes = list(dict.fromkeys(hashes.values()))
    nodes = {code: len(patients) + node for node, code in enumerate(codes)}
    edges = {(patients[item["patient"]], nodes[hashes[item["image"]]]) for item in items}
    edges |= {(nodes[codes[one]], nodes[codes[other]]) for one, other in near_pairs(codes, codes, radius)}
    rows, columns = zip(*edges, strict=True)
    size = len(patients) + len(nodes)
    _, groups = connected_components(coo_matrix((np.ones(len(edges)), (rows, columns)), (size, size)), directed=False)
    return [int(groups[patients[item["patient"]]]) for item in items]


def _parse(allow: str | Sequence[str] | None) -> list[str]:
    words = re.split(r"[\s,]+", allow) if isinstance(allow, str) else allow or []
    names = sorted({word for word in words if word and word.lower() != "none"})
    if names not in ([], ["images"]):
        raise InputError(f"--allow_leakage {','.join(names)}: only images can be allowed (or none)")
    return names


def _alike(folder: Path, datalist: dict[str, Any], radius: int) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of (split, image) from two splits that look the same."""
    items = {split: datalist[split] for split in SPLITS if datalist[split]}
    if len(items) < 2:
        return []  # nothing to compare
    hashes = _given_hashes(folder / FILE_NAME, items) or _computed_hashes(folder, items)
    pairs = []
    for one, other in combinations(items, 2):
        first, second = _by_hash(items[one], hashes), _by_hash(items[other], hashes)
        found = near_pairs(list(first), list(second), radius)
        names, others = list(first.values()), list(second.values())
        pairs += [((one, names[row]), (other, others[column])) for row, column in found]
    return pairs


def _by_hash(items: Sequence[Item], hashes: dict[str, str]) -> dict[str, str]:
    """Each hash once, with the first image that has it: crops of the same source have the same hash."""
    result: dict[str, str] = {}
    for item in items:
        result.setdefault(hashes[item["image"]], item["image"])
    return result


def _given_hashes(path: Path, items: dict[str, list[Item]]) -> dict[str, str]:
    """The data list's own hashes; none unless every item has one, since hashes of sources and crops do not match."""
    hashes = {item["image"]: item.get("hash") for split in items.values() for item in split}
    if not all(hashes.values()):
        return {}
    for image, value in hashes.items():
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise InputError(f"{path}: the hash of {image!r} is not 64 hexadecimal digits; prepare the folder again")
    return {image: str(value) for image, value in hashes.items()}


def _computed_hashes(folder: Path, items: dict[str, list[Item]]) -> dict[str, str]:
    """The hashes of the crops; for unchanged files, those from an earlier run."""
    images = list(dict.fromkeys(item["image"] for split in items.values() for item in split))
    states = {image: _state(folder, image) for image in images}
    known = {image: value for image, (*state, value) in _read_cache(folder).items() if state == states.get(image)}
    todo = [image for image in images if image not in known]
    with ThreadPoolExecutor(available_cores()) as pool:
        made = pool.map(lambda image: perceptual_hash(read_image(folder / image).pixels), todo)
        known |= dict(zip(todo, progress_bar(len(todo), "hashing crops", iterable=made), strict=True))
    if todo:
        _write_cache(folder, {image: [*states[image], known[image]] for image in images})
    return known


def _state(folder: Path, image: str) -> list[int]:
    try:
        status = (folder / image).stat()
    except OSError as error:
        raise InputError(
            f"{folder / image} is missing; run the prepare script again, it writes what is missing"
        ) from error
    return [status.st_size, status.st_mtime_ns]


def _read_cache(folder: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads((folder / CACHE).read_text(encoding="utf-8"))
        return {image: [size, modified, value] for image, (size, modified, value) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # missing, or from another version: the crops are hashed again


def _write_cache(folder: Path, content: dict[str, list[Any]]) -> None:
    try:
        write_text(folder / CACHE, json.dumps(content))
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): the crops are hashed again next time", folder / CACHE, error.strerror
        )


def perceptual_hash(pixels: np.ndarray, side: int = 64, frequencies: int = 16) -> str:
    """
    Hash what an image shows: which of its low frequencies are above their median.

    This is pHash (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010) with 255 instead of
    64 bits, since mammograms resemble each other.

    Square roots are taken, so that all tissue counts and not only the brightest parts. The mean is excluded.

    Args:
        pixels: (H, W), or (H, W, D), of which the mean along the last axis is hashed; 0..65535.
        side: side of the small copy, in pixels.
        frequencies: number of frequencies along each axis.

    Returns:
        64 hexadecimal digits.
    """
    plane = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    small = np.sqrt(resize_crop(plane, side).astype(np.float32))
    coefficients = dctn(small, norm="ortho")[:frequencies, :frequencies].ravel()[1:]
    return np.packbits(coefficients > np.median(coefficients)).tobytes().hex()


def near_pairs(first: Sequence[str], second: Sequence[str], radius: int) -> list[tuple[int, int]]:
    """
    Find all pairs of hashes that differ in at most `radius` bits: (index into `first`, index into `second`), in order.
    """
    from sklearn.neighbors import NearestNeighbors  # here, since each process that hashes images imports this module

    # the squared distance is the number of differing bits; between whole numbers, so that rounding does not matter
    search = NearestNeighbors(radius=(radius + 0.5) ** 0.5, algorithm="brute").fit(_bits(second))
    found = search.radius_neighbors(_bits(first), return_distance=False)
    return [(row, int(column)) for row, columns in enumerate(found) for column in sorted(columns)]


def _bits(hashes: Sequence[str]) -> np.ndarray:
    """(N, 256) float32 of 0 and 1."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32)
