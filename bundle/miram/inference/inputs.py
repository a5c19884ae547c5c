"""A user's images for a trained classifier: found, checked, and read as the prepare step reads them."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform

from miram.errors import InputError
from miram.files import as_text
from miram.jobs import run_jobs
from miram.prepare.records import source_digest
from miram.readers.formats import format_names, is_image_file, read_image, without_suffix
from miram.readers.image import Image
from miram.readers.search import Found, search
from miram.transforms.crops import resize_crop

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The images that were found."""

    items: list[dict[str, str]]  # {"image": path} for each image that can be read
    names: list[str]  # for each item, its path relative to the given folder
    problems: dict[str, str]  # by name, why a file was skipped
    intensity: str = "stored"  # how they are read, see :func:`miram.readers.formats.read_image`

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The items, each with its "index"."""
        return [{**item, "index": index} for index, item in enumerate(self.items)]

    def read(self, index: int) -> Image:
        """An image; the remarks on it are logged under its name."""
        return read_input(self.items[index]["image"], self.intensity, self.names[index])


def stored_crop_size(prepared: Mapping[str, Any], field_of_view: Sequence[int]) -> list[int]:
    """
    The size of a crop as the prepare scripts store it, in pixels: larger than the field of view, to allow random crops.

    Args:
        prepared: how the training crops were made, as far as known.
        field_of_view: the part of a crop that the classifier sees, in pixels.
    """
    return [prepared.get("crop_size") or round(1.25 * size) for size in field_of_view]


def largest_crop(prepared: Mapping[str, Any], field_of_view: Sequence[int]) -> int:
    """
    Pixels along the longest side above which an image is taken for a whole mammogram.

    Args:
        prepared: how the training crops were made; "whole" images have no limit.
        field_of_view: the part of a crop that the classifier sees, in pixels.
    """
    return 10**9 if prepared.get("crops") == "whole" else 4 * max(field_of_view)


def find_inputs(
    source: str | os.PathLike[str] | None,
    spatial_dims: int = 2,
    largest_crop: int = 1792,
    intensity: str = "stored",
    workers: int | None = None,
    time_limit: float = 300.0,
) -> Inputs:
    """
    Find the images in a file or a folder with its subfolders, and read each once to check that it is readable.

    An image in a folder that cannot be used is skipped and reported; a single file that cannot be used is an error.
    Links are followed (:func:`miram.readers.search.search`); hidden files and folders are ignored.

    Args:
        spatial_dims: number of axes that the network takes.
        largest_crop: pixels along the longest side above which an image is taken for a whole mammogram.
        intensity: see :func:`find_images`, also for `workers` and `time_limit`.

    Raises:
        InputError: if nothing was given or found, or no image can be used.
    """
    check = functools.partial(check_pixels, spatial_dims=spatial_dims, largest_crop=largest_crop)
    return find_images(source, check, intensity, workers, time_limit)


def find_images(
    source: str | os.PathLike[str] | None,
    check: Callable[[Path, np.ndarray], None],
    intensity: str = "stored",
    workers: int | None = None,
    time_limit: float = 300.0,
) -> Inputs:
    """
    Find the images in a file or a folder with its subfolders that can be read and pass a check.

    Images in a folder are first read in worker processes, so that a decoder that hangs or crashes affects only its own
    file. A single file is read in this process, since it cannot affect others.

    Args:
        check: called with each path and its pixels; raises `InputError` for images to skip. A function that a new
            process can import, or a `functools.partial` of one.
        intensity: see :func:`miram.readers.formats.read_image`.
        workers: see :func:`miram.jobs.run_jobs`.
        time_limit: seconds that reading a file may take.

    Raises:
        InputError: if nothing was given or found, or no image can be used.
    """
    if source is None:
        raise InputError(f"give --input: an image, or a folder of images ({format_names()})")
    root = Path(source)
    if not root.exists():
        raise InputError(f"there is no {root}; give --input an image or a folder of images")
    found = _candidates(root)
    paths = [root if root.is_file() else root / name for name in found.files]
    names = [as_text(name) for name in found.files]
    work = functools.partial(check_file, check=check, intensity=intensity)
    results = run_jobs(paths, work, 0 if root.is_file() else workers, "reading", time_limit)
    problems = {as_text(name): as_text(f"{name}: {why}") for name, why in (found.problems | found.repeated).items()}
    problems |= {name: as_text(str(result)) for name, result in zip(names, results, strict=True) if result is not None}
    used = [(name, str(path)) for name, path in zip(names, paths, strict=True) if name not in problems]
    if not used:
        raise InputError(next(iter(problems.values()), f"{root} holds no image"))
    for name, problem in problems.items():
        logger.warning("skipped %s: %s", name, problem)
    return Inputs([{"image": path} for _, path in used], [name for name, _ in used], problems, intensity)


def output_names(names: Sequence[str]) -> list[str]:
    """
    The output file name of each image: its path without the suffix, with `_` for unsafe characters.

    If two names would be the same, a digest of the path distinguishes them.
    """
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", without_suffix(name).as_posix().replace("/", "__")) for name in names]
    counts = Counter(plain)
    return [
        short if counts[short] == 1 else f"{short}_{source_digest(name)[:8]}"
        for short, name in zip(plain, names, strict=True)
    ]


def check_pixels(path: str | os.PathLike[str], pixels: np.ndarray, spatial_dims: int, largest_crop: int) -> None:
    """
    Check that a lesion classifier can be applied to an image.

    Raises:
        InputError: if it has the wrong number of axes, is constant, or is as large as a whole mammogram.
    """
    if pixels.ndim != spatial_dims:
        kinds, remedies = {2: "a 2D image", 3: "a volume"}, {2: "give one of its slices", 3: "give the whole volume"}
        raise InputError(
            f"{path} is {kinds[pixels.ndim]}, but the model takes {kinds[spatial_dims]}: {remedies[spatial_dims]}"
        )
    if pixels.min() == pixels.max():
        raise InputError(f"{path} is constant: every pixel has the same value")
    if max(pixels.shape) > largest_crop:
        size = " x ".join(map(str, pixels.shape))
        raise InputError(
            f"{path} has {size} pixels, more than largest_crop={largest_crop}: it looks like a whole mammogram, but "
            "this model classifies crops of lesions. Crop the lesion, compute a risk map of the whole mammogram "
            "(riskmap.yaml), or judge whole views and breasts (exam_inference.yaml). If it is a crop, raise "
            "--largest_crop"
        )


def reduce_to(pixels: np.ndarray, largest: Sequence[int]) -> np.ndarray:
    """
    Downsample an image that is larger than a prepared crop, keeping its proportions; a smaller one stays as it is.

    Args:
        pixels: (H, W) or (H, W, D), uint16.
        largest: largest size in pixels, one number per axis.

    Returns:
        uint16 of at most `largest`.
    """
    scale = min(limit / length for limit, length in zip(largest, pixels.shape, strict=True))
    return pixels if scale >= 1 else resize_crop(pixels, [max(1, round(length * scale)) for length in pixels.shape])


def read_input(path: str | os.PathLike[str], intensity: str, name: str | None = None) -> Image:
    """Read an image (:func:`miram.readers.formats.read_image`), and log the remarks on it under a name, or its path."""
    image = read_image(path, intensity=intensity)
    for remark in image.remarks:
        logger.warning("%s: %s", name or path, remark)
    return image


class LoadCropd(MapTransform):
    """
    Load crops of lesions in any supported format, as the prepare step reads them.

    MONAI's `LoadImage` is not used: if our reader refuses a file (a color image, a damaged file), `LoadImage` tries its
    own readers, and one of them may return something else.

    Args:
        crop_size: largest size in pixels, one number per axis; a larger image is downsampled (:func:`reduce_to`).
        largest_crop: see :func:`check_pixels`.
        intensity: see :func:`miram.readers.formats.read_image`.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        crop_size: Sequence[int],
        largest_crop: int,
        intensity: str = "stored",
    ) -> None:
        super().__init__(keys)
        self.crop_size = tuple(crop_size)
        self.largest_crop = largest_crop
        self.intensity = intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Replace paths with images (1, H, W) or (1, H, W, D), float32 0..65535, rows first.

        Raises:
            InputError: if an image cannot be read, or :func:`check_pixels` refuses it.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            pixels = read_input(result[key], self.intensity).pixels
            check_pixels(result[key], pixels, len(self.crop_size), self.largest_crop)
            result[key] = MetaTensor(reduce_to(pixels, self.crop_size)[None].astype(np.float32))
        return result


def check_file(path: Path, check: Callable[[Path, np.ndarray], None], intensity: str) -> None:
    """
    Read an image and check it.

    Raises:
        InputError: if it cannot be read, or `check` refuses it.
    """
    check(path, read_image(path, intensity=intensity).pixels)


def _candidates(root: Path) -> Found:
    """The images below a folder, or the single file."""
    if root.is_file():
        return Found([root.name])
    found = search(root)
    found.files = [name for name in found.files if is_image_file(root / name)]
    return found
