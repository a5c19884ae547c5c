"""Whole mammograms: found, checked, and loaded with the grid of their file, to which their maps return."""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform
from scipy import ndimage

from miram.errors import InputError
from miram.inference.inputs import Inputs, check_pixels, find_images, read_input
from miram.inference.windows import is_number
from miram.readers.dicom import read_dicom
from miram.readers.formats import READERS
from miram.readers.image import reason
from miram.readers.volumes import image_io, read_itk, read_nifti
from miram.transforms.crops import breast_mask

NO_BREAST = "no breast was found: nothing stands out from the background"


def find_mammograms(
    source: str | os.PathLike[str] | None,
    intensity: str = "stored",
    workers: int | None = None,
    time_limit: float = 300.0,
    smallest_view: int = 0,
) -> Inputs:
    """
    Find the mammograms in a file or a folder with its subfolders, and read each once to check that it can be mapped.

    An image in a folder that cannot be mapped is skipped and reported; a single file that cannot be mapped is an error.

    Args:
        intensity: see :func:`miram.inference.inputs.find_images`, also for `workers` and `time_limit`.
        smallest_view: pixels along the longest side below which an image is taken for a crop.

    Raises:
        InputError: if nothing was given or found, or no image can be mapped.
    """
    if not is_number(smallest_view):
        raise InputError(f"smallest_view is {smallest_view!r}; give a number of pixels, 0 to refuse no image")
    check = functools.partial(check_mammogram, smallest_view=smallest_view)
    return find_images(source, check, intensity, workers, time_limit)


def smallest_size(field_of_view: Sequence[int], prepared: Mapping[str, Any] | None = None) -> int:
    """
    Pixels along the longest side below which an image is taken for a crop.

    Args:
        field_of_view: size of a window of the model.
        prepared: of training on whole views, how they were prepared.

    Returns:
        two windows, or half of the training views if that is less.
    """
    two_windows, known = 2 * max(field_of_view), prepared or {}
    return min(two_windows, known.get("smallest_view", known.get("crop_size", 2 * two_windows) // 2))


def check_mammogram(path: str | os.PathLike[str], pixels: np.ndarray, smallest_view: int = 0) -> None:
    """
    Check that an image can be mapped.

    Raises:
        InputError: if it is a volume, is constant, shows no breast, is as small as a crop, or has a grid that cannot be
            kept.
    """
    check_pixels(path, pixels, spatial_dims=2, largest_crop=max(pixels.shape))
    if not breast_mask(pixels).any():
        raise InputError(f"{path}: {NO_BREAST}")
    if max(pixels.shape) < smallest_view:
        size = " x ".join(map(str, pixels.shape))
        raise InputError(
            f"{path} has {size} pixels, less than smallest_view={smallest_view}: it looks like a crop, but this model "
            "takes whole views. Crops of lesions: inference.yaml classifies them, segment_evaluate.yaml segments those "
            "of a prepared folder. If it is a whole view, lower --smallest_view"
        )
    source_grid(path, pixels.shape)


def whole_breast(pixels: np.ndarray, gap: float = 0.06, working_size: int = 512) -> np.ndarray:
    """
    A mask of the breast, including the dark fat that :func:`miram.transforms.crops.breast_mask` excludes.

    That function is for choosing windows of tissue; here no part of the breast should be missed. So bays and gaps in
    its outline are closed (morphologically, on a small copy), also those that open to the edge of the image.

    Args:
        pixels: (H, W), high = bright.
        gap: width of the gaps that are closed, as a share of the longer side.
        working_size: largest length of the small copy's longer side.

    Returns:
        bool, (H, W).

    Raises:
        InputError: if no breast is found.
    """
    mask = breast_mask(pixels)
    if not mask.any():
        raise InputError(NO_BREAST)
    step = -(-max(mask.shape) // working_size)
    radius = max(1, round(gap * max(mask.shape) / step / 2))
    cells = mask
    for axis in (0, 1):  # a cell of the small copy counts only if all its pixels are breast
        cells = np.logical_and.reduceat(cells, np.arange(0, mask.shape[axis], step), axis=axis)
    if not cells.any():
        return mask
    dilated = ndimage.distance_transform_edt(~np.pad(cells, radius, mode="edge")) <= radius
    closed = ndimage.binary_fill_holes(ndimage.distance_transform_edt(dilated) > radius)
    added = closed[radius:-radius, radius:-radius] & ~cells
    rows, columns = (np.arange(length) // step for length in mask.shape)
    return mask | added[np.ix_(rows, columns)]


class LoadMammogramd(MapTransform):
    """
    Load whole images as the prepare steps read them, and keep the grid of the file.

    MONAI's `LoadImage` is not used, see :class:`miram.inference.inputs.LoadCropd`.

    Args:
        intensity: see :func:`miram.readers.formats.read_image`.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], intensity: str = "stored") -> None:
        super().__init__(keys)
        self.intensity = intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Replace paths by images.

        Returns:
            `MetaTensor`s (1, H, W), rows first, float32 0..65535, high = bright. Their meta data hold "spatial_shape",
            the file's axes, (W, H) or (W, H, 1), "original_affine" of those axes (RAS, mm), and "pixel_spacing", mm
            per row and column, NaN if the file does not say.

        Raises:
            InputError: if an image cannot be read, or is a volume.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            path = result[key]
            image = read_input(path, self.intensity)
            check_pixels(path, image.pixels, spatial_dims=2, largest_crop=max(image.pixels.shape))
            shape, affine = source_grid(path, image.pixels.shape)
            meta = {
                "filename_or_obj": str(path),
                "spatial_shape": np.array(shape),
                "original_affine": to_affine_nd(len(shape), affine),
                "pixel_spacing": np.array(image.spacing or (np.nan, np.nan)),
            }
            result[key] = MetaTensor(torch.from_numpy(image.pixels[None].astype(np.float32)), meta=meta)
        return result


class BreastOnlyd(MapTransform):
    """Set maps (1, H, W) to 0 outside the breast that the loaded "image" shows."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the maps."""
        result = dict(data)
        breast = torch.from_numpy(whole_breast(np.asarray(result["image"][0].cpu())))
        for key in self.key_iterator(result):
            result[key] = torch.as_tensor(result[key]).cpu() * breast
        return result


class ToSourceGridd(MapTransform):
    """Convert maps (1, H, W) to the axes of the file that :class:`LoadMammogramd` read as "image"."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return maps (W, H) for a file with two axes, and (1, W, H, 1) for three, as MONAI Label expects."""
        result = dict(data)
        shape = tuple(int(length) for length in result["image"].meta["spatial_shape"])
        for key in self.key_iterator(result):
            plane = torch.as_tensor(result[key])[0].T.contiguous()
            result[key] = plane if len(shape) == 2 else plane.reshape(1, *shape)
        return result


def source_grid(path: str | os.PathLike[str], shape: Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
    """
    The axes of an image's file, as ITK orders them, and their affine.

    NIfTI, MHA and NRRD keep their own grid. DICOM is one slice, with the spacing and position that ITK and viewers
    built on it use; PNG, JPEG and TIFF have two axes and no spacing in millimetres.

    Args:
        shape: of the image that was read from it, (H, W).

    Returns:
        (W, H) or (W, H, 1), and the RAS affine (4, 4).

    Raises:
        InputError: if ITK cannot read the file's geometry, for example because its axes are sheared.
    """
    suffix = next((suffix for suffix in READERS if Path(path).name.lower().endswith(suffix)), None)
    if suffix is not None and READERS[suffix] not in (read_dicom, read_nifti, read_itk):  # formats without a geometry
        return (shape[1], shape[0]), np.diag([-1.0, -1.0, 1.0, 1.0])  # image axes run opposite to RAS
    try:
        io = image_io(path)
    except RuntimeError as error:
        raise InputError(f"{path} has a geometry that itk cannot read ({reason(error)}); convert it") from error
    axes = list(range(min(io.GetNumberOfDimensions(), 3)))
    affine = np.eye(4)
    for axis in axes:
        affine[axes, axis] = np.array(list(io.GetDirection(axis)))[axes] * io.GetSpacing(axis)
        affine[axis, 3] = io.GetOrigin(axis)
    affine[:2] *= -1  # ITK's axes point left and back, RAS the other way
    return tuple(int(io.GetDimensions(axis)) for axis in axes), affine
