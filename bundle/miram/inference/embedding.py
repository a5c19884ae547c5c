"""The features of a folder of images or a data list: in parts that an interrupted run keeps, then in one file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miram.data.datalist import FILE_NAME, SPLITS, load_split
from miram.errors import InputError
from miram.files import as_text, write_json
from miram.inference.feature_files import Part, read_facts, write_features
from miram.inference.inputs import check_pixels, reduce_to
from miram.inference.tiles import TileEncoder
from miram.prepare.records import hash_patient, secret_key
from miram.progress import progress_bar
from miram.readers.formats import is_image_file, read_image
from miram.readers.search import search
from miram.transforms.crops import crop_at, fit_crop, scaled_size

logger = logging.getLogger(__name__)

FEATURES = ("token", "mean", "grid")
WINDOWS = ("center", "whole")


@dataclass(frozen=True)
class Source:
    """An image to describe."""

    name: str  # as the output names it: relative to the folder
    path: Path  # of the file
    patient: str | None = None  # as the data list says; None for a folder, whose DICOM headers are asked


@dataclass(frozen=True)
class Embedding:
    """
    What is computed of an image.

    Raises:
        InputError: if a feature or the window is unknown, or the encoder has no class token.
    """

    encoder: TileEncoder  # the backbone, and the size of the window that it sees
    # "token" (the class token), "mean" (of the patches) and "grid" (all patches)
    features: Sequence[str] = ("token", "mean")
    window: str = "center"  # "center" of the image, or the "whole" image, downsampled into the window
    intensity: str = "stored"  # see :func:`miram.readers.formats.read_image`

    def __post_init__(self) -> None:
        unknown = set(self.features) - set(FEATURES)
        if unknown or not self.features or self.window not in WINDOWS:
            raise InputError(f"features are of {', '.join(FEATURES)}, and the window is one of {', '.join(WINDOWS)}")
        if "token" in self.features and self.encoder.encoder.cls_token is None:
            raise InputError("this encoder has no class token; give --features mean, or grid")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the features, as plain values."""
        facts = {
            name: self.encoder.settings[name] for name in ("field_of_view", "preprocessing", "precision", "weights")
        }
        return {**facts, "features": list(self.features), "window": self.window, "intensity": self.intensity}

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The window (h, w) of an image (H, W) that the encoder sees; larger crops are reduced as for inference."""
        size = self.encoder.field_of_view
        if self.window == "whole":
            return fit_crop(pixels, max(size))
        pixels = reduce_to(pixels, scaled_size(size, 1.25))
        return crop_at(pixels, [length / 2 for length in pixels.shape], size)

    @torch.no_grad()
    def describe(self, windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The features of windows, float32: "token" and "mean" (B, D), "grid" (B, *grid, D)."""
        encoder = self.encoder.encoder
        batch = torch.from_numpy(np.stack(windows).astype(np.float32))[:, None].to(self.encoder.device)
        tokens = self.encoder.tokens(batch).cpu()
        patches = tokens if encoder.cls_token is None else tokens[:, 1:]
        made = {"token": tokens[:, 0], "mean": patches.mean(dim=1), "grid": patches.unflatten(1, encoder.grid)}
        return {name: made[name].numpy() for name in self.features}


def find_sources(source: str | os.PathLike[str]) -> list[Source]:
    """
    The images of a prepared folder (all of its splits), or of any folder with its subfolders.

    Raises:
        InputError: if there is no such folder, or it holds no image.
    """
    root = Path(source)
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give --input_dir a folder of images or a prepared folder")
    if (root / FILE_NAME).is_file():
        items = [item for split in SPLITS for item in load_split(root, split, required=False)]
        start = root.resolve()
        found = [
            Source(Path(item["image"]).relative_to(start).as_posix(), Path(item["image"]), item["patient"])
            for item in items
        ]
    else:
        names = [name for name in search(root).files if is_image_file(root / name)]
        found = [Source(as_text(name), root / name) for name in sorted(names)]
    if not found:
        raise InputError(f"{root} holds no image")
    return found


def embed(
    sources: Sequence[Source],
    embedding: Embedding,
    output: str | os.PathLike[str],
    facts: dict[str, Any],
    batch_size: int = 32,
) -> dict[str, str]:
    """
    Write the features of images to one file, NPZ or Parquet; an interrupted run goes on where it stopped.

    Args:
        output: ends in `.npz` or `.parquet`; while it is made, its parts are in a folder beside it.
        facts: the provenance, stored in the file.
        batch_size: images at once; memory grows with it.

    Returns:
        by name, why an image was left out.

    Raises:
        InputError: if the output was made, or begun, of other images or with other settings, or no image can be read.
    """
    output = Path(output)
    settings = {**embedding.settings, "images": _digest(sources)}
    if output.exists():
        made = read_facts(output)
        if made["settings"] != settings:
            raise InputError(f"{output} was made of other images or settings; give another --output, or delete it")
        logger.info("%s is complete: nothing is computed again", output)
        return dict(made["left_out"])
    folder = output.with_name(output.name + ".parts")
    key = _begin(folder, settings)
    paths = [folder / f"{start:08d}.npz" for start in range(0, len(sources), batch_size)]
    with progress_bar(len(sources), "features", unit="images") as bar:
        for number, path in enumerate(paths):
            batch = sources[number * batch_size : (number + 1) * batch_size]
            if not path.is_file():
                _write_part(path, batch, embedding, key)
            bar.update(len(batch))
    problems = {name: text for path in paths for name, text in Part.read(path).problems.items()}
    for name, problem in problems.items():
        logger.warning("left out %s: %s", name, problem)
    if len(problems) == len(sources):
        raise InputError(f"no image can be described; the first: {next(iter(problems.values()))}")
    write_features(output, paths, {"settings": settings, "left_out": problems, **facts})
    shutil.rmtree(folder)
    return problems


def _write_part(path: Path, batch: Sequence[Source], embedding: Embedding, key: bytes) -> None:
    windows, files, patients, problems = [], [], [], {}
    for source in batch:
        try:
            image = read_image(source.path, intensity=embedding.intensity)
            check_pixels(source.path, image.pixels, spatial_dims=2, largest_crop=max(image.pixels.shape))
        except InputError as error:
            problems[source.name] = str(error)
            continue
        windows.append(embedding.cut(image.pixels))
        files.append(source.name)
        patients.append(source.patient or (f"#{hash_patient(image.patient, key)}" if image.patient else ""))
    arrays = embedding.describe(windows) if windows else {}
    Part(files, patients, problems, arrays).write(path)


def _begin(folder: Path, settings: dict[str, Any]) -> bytes:
    """Start or continue the folder of parts; the key hashes patient ids, and goes with the folder."""
    path = folder / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise InputError(f"{folder} was begun with other images or settings; delete it, or give another --output")
    write_json(path, settings)
    return secret_key(folder / "key")


def _digest(sources: Sequence[Source]) -> str:
    """Of the images' names, sizes and times."""
    states = [(source.name, source.path.stat().st_size, source.path.stat().st_mtime_ns) for source in sources]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()
