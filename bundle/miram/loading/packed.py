"""
A packed copy of a prepared folder's crops: a few memory-mapped arrays instead of many PNG files.

A PNG is decoded each time it is read; a packed crop is only copied. The folder remains the source: a packed copy of
another state of the folder is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miram.cli import shell_path
from miram.data.datalist import FILE_NAME, SPLITS, read_datalist
from miram.errors import InputError
from miram.files import atomic_write, write_text
from miram.prepare.prepared import read_png16
from miram.progress import progress_bar

FOLDER = "packed"
INDEX = "packed.json"
FORMAT_VERSION = 1
REMEDY = "make it with: python scripts/pack.py --dataset_dir"


@dataclass(frozen=True)
class PackedStore:
    """
    Crops in memory-mapped shards, numbered in the order of packing.

    Args:
        shards: (n, H, W) uint16 each, in order.
        sizes: (N, 2) height and width of each crop, which starts at the first row and column of its entry.
        numbers: each crop's number by its path relative to the prepared folder.
    """

    shards: Sequence[np.ndarray]
    sizes: np.ndarray
    numbers: dict[str, int]

    @property
    def shard_length(self) -> int:
        """Number of crops in every shard except the last."""
        return len(self.shards[0])

    def crop(self, number: int) -> np.ndarray:
        """A crop's pixels (h, w), a view of the mapped file."""
        height, width = self.sizes[number]
        return self.shards[number // self.shard_length][number % self.shard_length, :height, :width]


def pack_folder(dataset_dir: str | os.PathLike[str], shard_bytes: int = 4 << 30) -> Path:
    """
    Pack the crops of all splits of a prepared folder into `packed/`, shard by shard; an older copy is replaced.

    Shards from an interrupted run with the same data list are kept.

    Args:
        dataset_dir: a prepared folder of 2D crops.
        shard_bytes: largest size of a file.

    Returns:
        the folder of the packed copy.

    Raises:
        InputError: if the folder has no crops, or volumes, or a crop cannot be read.
    """
    folder = Path(dataset_dir)
    paths = _image_paths(folder)
    target = folder / FOLDER
    sizes = np.array([_size(folder / path) for path in progress_bar(len(paths), "Measuring crops", iterable=paths)])
    shape = tuple(int(side) for side in sizes.max(axis=0))
    length = max(shard_bytes // (2 * shape[0] * shape[1]), 1)
    state = {
        "format": FORMAT_VERSION,
        "datalist_sha256": _hash(folder),
        "shape": shape,
        "shards": [f"shard_{first // length:05d}.npy" for first in range(0, len(paths), length)],
        "images": paths,
        "sizes": sizes.tolist(),
    }
    _remove_stale(target, state)
    with progress_bar(len(paths), "Packing crops") as bar:
        for number, name in enumerate(state["shards"]):
            batch = paths[number * length : (number + 1) * length]
            if not (target / name).exists():
                _write_shard(target / name, folder, batch, shape)
            bar.update(len(batch))
    write_text(target / INDEX, json.dumps({**state, "finished": True}) + "\n")
    return target


def open_packed(dataset_dir: str | os.PathLike[str]) -> PackedStore:
    """
    Open the packed copy of a prepared folder; pixels are read only when a crop is used.

    Raises:
        InputError: if there is no copy, it belongs to another state of the folder, or a shard is missing or damaged.
    """
    folder = Path(dataset_dir)
    state = _read_index(folder / FOLDER / INDEX)
    if state is None or not state.get("finished"):
        raise InputError(f"there is no packed copy in {folder / FOLDER}; {REMEDY} {shell_path(folder)}")
    if state["datalist_sha256"] != _hash(folder):
        raise InputError(f"{folder / FOLDER} was packed from another {FILE_NAME}; {REMEDY} {shell_path(folder)}")
    shards = [_open_shard(folder / FOLDER / name, tuple(state["shape"])) for name in state["shards"]]
    if sum(map(len, shards)) != len(state["images"]):
        raise InputError(
            f"the shards in {folder / FOLDER} do not have {len(state['images'])} crops; {REMEDY} {shell_path(folder)}"
        )
    numbers = {path: number for number, path in enumerate(state["images"])}
    return PackedStore(shards, np.array(state["sizes"]), numbers)


def _image_paths(folder: Path) -> list[str]:
    datalist = read_datalist(folder / FILE_NAME)
    paths = [item["image"] for split in SPLITS for item in datalist[split]]
    if not paths:
        raise InputError(f"{folder / FILE_NAME} has no images to pack")
    volumes = [path for path in paths if not path.lower().endswith(".png")]
    if volumes:
        raise InputError(f"{folder / volumes[0]} is not a PNG crop; only 2D crops can be packed")
    return paths


def _size(path: Path) -> tuple[int, int]:
    """Height and width of a crop, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); run the prepare script again") from error


def _hash(folder: Path) -> str:
    return hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()


def _remove_stale(target: Path, state: dict[str, Any]) -> None:
    """Remove earlier shards unless they belong to the same state."""
    found = _read_index(target / INDEX)
    if found is not None and {**found, "finished": False} == {**json.loads(json.dumps(state)), "finished": False}:
        return
    for path in target.glob("shard_*.npy"):
        path.unlink()
    write_text(target / INDEX, json.dumps({**state, "finished": False}) + "\n")


def _read_index(path: Path) -> dict[str, Any] | None:
    """The index, or None if there is none or it has another format."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("format") == FORMAT_VERSION else None


def _write_shard(path: Path, folder: Path, crops: Sequence[str], shape: tuple[int, ...]) -> None:
    with atomic_write(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint16, shape=(len(crops), *shape))
        for place, crop in zip(array, crops, strict=True):
            pixels = read_png16(folder / crop)
            place[: pixels.shape[0], : pixels.shape[1]] = pixels
        array.flush()


def _open_shard(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {REMEDY} {shell_path(path.parents[1])}") from error
    if array.dtype != np.uint16 or array.shape[1:] != shape:
        raise InputError(f"{path} is not a shard of crops of {shape} pixels; {REMEDY} {shell_path(path.parents[1])}")
    return array
