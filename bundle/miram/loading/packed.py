"""
A packed copy of a prepared folder's crops: a few memory-mapped arrays instead of many PNG files.

A PNG is decoded each time it is read; a packed crop is only copied. The folder remains the source: a packed copy of
another state of the folder is refused, and made again by :func:`ensure_packed`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from miram.cli import shell_path
from miram.data.datalist import FILE_NAME, SPLITS, read_datalist
from miram.errors import InputError
from miram.files import atomic_write, write_text
from miram.prepare.prepared import read_png16
from miram.progress import progress_bar

logger = logging.getLogger(__name__)

FOLDER = "packed"
INDEX = "packed.json"
FORMAT_VERSION = 2
REMEDY = "make it with: python scripts/pack.py --dataset_dir"
# a disk on which nothing, or nothing more, can be written, or no file can be locked
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOLCK}


@dataclass(frozen=True)
class PackedStore:
    """Crops in memory-mapped shards, numbered in the order of packing."""

    shards: Sequence[np.ndarray]  # (n, H, W) uint16 each, in order
    sizes: np.ndarray  # (N, 2) height and width of each crop, which starts at the first row and column of its entry
    numbers: dict[str, int]  # each crop's number by its path relative to the prepared folder
    folder: Path  # the prepared folder

    @property
    def shard_length(self) -> int:
        """Number of crops in every shard except the last."""
        return len(self.shards[0])

    def number(self, path: str | os.PathLike[str]) -> int:
        """The number of a crop, given the path of its file."""
        return self.numbers[Path(path).relative_to(self.folder).as_posix()]

    def crop(self, number: int) -> np.ndarray:
        """A crop's pixels (h, w), a view of the mapped file."""
        height, width = self.sizes[number]
        return self.shards[number // self.shard_length][number % self.shard_length, :height, :width]


def ensure_packed(dataset_dir: str | os.PathLike[str], packed_dir: str | os.PathLike[str] | None = None) -> bool:
    """
    Pack a prepared folder unless a copy of its present state is there. It is done once, before the first run.

    Args:
        packed_dir: a folder for the copy alone; None is `packed/` in the prepared folder.

    Returns:
        whether there is a copy. There is none of volumes, and none where the disk is full or cannot be written, with a
        warning; training then reads the files.

    Raises:
        InputError: if a crop cannot be read, or a shard is damaged.
    """
    if _volumes(_all_paths(Path(dataset_dir))):
        logger.info("%s has volumes, which are read from their files", dataset_dir)
        return False
    if find_packed(dataset_dir, packed_dir) is not None:
        return True
    try:
        pack_folder(dataset_dir, packed_dir=packed_dir)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        logger.warning(
            "the crops are read from their files, which is many times slower: there is no room for a packed copy in %s "
            "(%s); give --packed_dir with a folder on another disk",
            _target(dataset_dir, packed_dir),
            error.strerror,
        )
        return False
    return True


def pack_folder(
    dataset_dir: str | os.PathLike[str],
    shard_bytes: int = 4 << 30,
    packed_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """
    Pack the crops of all splits of a prepared folder, shard by shard; the copy of another state is replaced.

    Shards from an interrupted run on the same state are kept. If another run is packing, this one waits for it.

    Args:
        dataset_dir: a prepared folder of 2D crops.
        shard_bytes: largest size of a file.
        packed_dir: a folder for the copy alone; None is `packed/` in the prepared folder.

    Returns:
        the folder of the packed copy.

    Raises:
        InputError: if the folder has no crops, or volumes, or a crop cannot be read.
        OSError: if the disk is too small, before anything is written, or cannot be written.
    """
    folder, target = Path(dataset_dir), _target(dataset_dir, packed_dir)
    paths = _image_paths(folder)
    sizes = np.array([_size(folder / path) for path in progress_bar(len(paths), "Measuring crops", iterable=paths)])
    shape = tuple(int(side) for side in sizes.max(axis=0))
    length = max(shard_bytes // (2 * shape[0] * shape[1]), 1)
    state = {
        "format": FORMAT_VERSION,
        "folder_sha256": _hash(folder, paths),
        "shape": shape,
        "shards": [f"shard_{first // length:05d}.npy" for first in range(0, len(paths), length)],
        "images": paths,
        "sizes": sizes.tolist(),
    }
    target.mkdir(parents=True, exist_ok=True)
    with _alone(target):  # a second run that starts meanwhile waits, and then finds the shards
        _write_missing(target, state, folder, length)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait until no other run writes to the folder."""
    lock = FileLock(target / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("another run is packing into %s: waiting for it", target)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def find_packed(
    dataset_dir: str | os.PathLike[str], packed_dir: str | os.PathLike[str] | None = None
) -> PackedStore | None:
    """
    Open the packed copy if there is one of the folder's present state; else :func:`ensure_packed` has said why.

    A run calls this once, for all of its loaders: each time, the size of every crop's file is asked for.

    Raises:
        InputError: if a shard is missing or damaged.
    """
    folder, target = Path(dataset_dir), _target(dataset_dir, packed_dir)
    state = _read_index(target / INDEX)
    if state is None or not state.get("finished") or state["folder_sha256"] != _hash(folder, state["images"]):
        return None
    shards = [_open_shard(target / name, tuple(state["shape"])) for name in state["shards"]]
    if sum(map(len, shards)) != len(state["images"]):
        raise InputError(
            f"the shards in {target} do not have {len(state['images'])} crops; delete it, and {REMEDY} "
            f"{shell_path(folder)}"
        )
    numbers = {path: number for number, path in enumerate(state["images"])}
    return PackedStore(shards, np.array(state["sizes"]), numbers, folder.resolve())


def open_packed(dataset_dir: str | os.PathLike[str], packed_dir: str | os.PathLike[str] | None = None) -> PackedStore:
    """
    Open the packed copy of a prepared folder; pixels are read only when a crop is used.

    Raises:
        InputError: if there is no copy, it belongs to another state of the folder, or a shard is missing or damaged.
    """
    store = find_packed(dataset_dir, packed_dir)
    if store is not None:
        return store
    target = _target(dataset_dir, packed_dir)
    state = _read_index(target / INDEX)
    why = f"there is no packed copy in {target}"
    if state is not None and state.get("finished"):
        why = f"{target} was packed from another state of the folder"
    raise InputError(f"{why}; {REMEDY} {shell_path(dataset_dir)}")


def _target(dataset_dir: str | os.PathLike[str], packed_dir: str | os.PathLike[str] | None) -> Path:
    return Path(dataset_dir) / FOLDER if packed_dir is None else Path(packed_dir)


def _check_room(target: Path, needed: int) -> None:
    """Say how large the copy is, and refuse it if it would fill the disk."""
    if needed:
        logger.info("packing the crops once, for all later runs: %.2f GB in %s", needed / 1e9, target)
    if needed > shutil.disk_usage(target).free:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.2f} GB are needed", str(target))


def _all_paths(folder: Path) -> list[str]:
    """In an order that does not depend on the splits: folders that share out the same crops can share a copy."""
    datalist = read_datalist(folder)
    return sorted(item["image"] for split in SPLITS for item in datalist[split])


def _volumes(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not path.lower().endswith(".png")]


def _image_paths(folder: Path) -> list[str]:
    paths = _all_paths(folder)
    if not paths:
        raise InputError(f"{folder / FILE_NAME} has no images to pack")
    if volumes := _volumes(paths):
        raise InputError(f"{folder / volumes[0]} is not a PNG crop; only 2D crops can be packed")
    return paths


def _size(path: Path) -> tuple[int, int]:
    """Height and width of a crop, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); run the prepare script again") from error


def _hash(folder: Path, paths: Sequence[str]) -> str:
    """Of the data list without its splits, and of the sizes of its files, which change with their pixels."""
    datalist = read_datalist(folder)
    items = sorted((item for split in SPLITS for item in datalist[split]), key=lambda item: item["image"])
    digest = hashlib.sha256(json.dumps([datalist.get("prepared"), items], sort_keys=True).encode())
    digest.update(",".join(str(_bytes(folder / path)) for path in paths).encode())
    return digest.hexdigest()


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


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


def _write_missing(target: Path, state: dict[str, Any], folder: Path, length: int) -> None:
    """Write the shards that are not there yet, and say in the index when all are."""
    _remove_stale(target, state)
    paths, (height, width) = state["images"], state["shape"]
    missing = [number for number, name in enumerate(state["shards"]) if not (target / name).exists()]
    batches = {number: paths[number * length : (number + 1) * length] for number in missing}
    crops = sum(map(len, batches.values()))
    _check_room(target, crops * 2 * height * width)
    with progress_bar(crops, "Packing crops") as bar:
        for number, batch in batches.items():
            _write_shard(target / state["shards"][number], folder, batch, (height, width))
            bar.update(len(batch))
    write_text(target / INDEX, json.dumps({**state, "finished": True}) + "\n")


def _write_shard(path: Path, folder: Path, crops: Sequence[str], shape: tuple[int, ...]) -> None:
    """Written, not mapped: a full disk then raises an error instead of killing the process."""
    header = {"descr": "<u2", "fortran_order": False, "shape": (len(crops), *shape)}
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for crop in crops:
            pixels, place = read_png16(folder / crop), np.zeros(shape, "<u2")
            place[: pixels.shape[0], : pixels.shape[1]] = pixels
            stream.write(place.tobytes())


def _open_shard(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it and run scripts/pack.py again") from error
    if array.dtype != np.uint16 or array.shape[1:] != shape:
        raise InputError(f"{path} is not a shard of crops of {shape} pixels; delete it and run scripts/pack.py again")
    return array
