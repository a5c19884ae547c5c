"""NIfTI through nibabel; MHA, MHD and NRRD through itk. Volumes come in RAS orientation."""

from __future__ import annotations

import os
from typing import Any

import nibabel
import numpy as np

from miram.data.image import Image, check_size, reason, to_uint16
from miram.errors import InputError


def read_nifti(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a NIfTI volume, or a 2D image stored as one slice.

    A volume is brought to the closest canonical orientation: its axes run to the patient's right, front and head. A
    single slice is a 2D image and stays as it lies: its first axis on disk are the columns, as itk and MONAI write.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, colored, or has more than three axes.
    """
    try:
        volume: Any = nibabel.load(path)
        check_size(path, volume.shape, max_pixels)
        scaled = (volume.dataobj.slope, volume.dataobj.inter) != (1, 0)
        values = np.asarray(volume.dataobj) if scaled else np.asarray(volume.dataobj.get_unscaled())
    except (InputError, MemoryError):
        raise
    except Exception as error:  # nibabel, zlib and the header's own checks raise many kinds for damaged files.
        raise InputError(
            f"{path} cannot be read ({reason(error)}); it may be truncated or damaged, copy it again"
        ) from error
    return _image(path, values, volume.affine, intensity)


def read_itk(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read an image or a volume in a format that itk knows (MHA, MHD, NRRD), oriented as by :func:`read_nifti`.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, has several values a pixel, or over three axes.
    """
    import itk  # here, since it takes a second to import and few folders need it

    try:
        _check_header(path, max_pixels)
        image = itk.imread(os.fspath(path))
        values = itk.array_from_image(image)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # itk raises RuntimeError, and its wrapping TypeError and KeyError.
        raise InputError(f"{path} cannot be read by itk; it may be truncated or damaged, copy or convert it") from error
    return _image(path, values.T, _ras_affine(image), intensity)


def itk_array(path: str | os.PathLike[str]) -> np.ndarray:
    """A 2D PNG or TIFF of 8 or 16 bit through itk: (H, W) or (H, W, channels)."""
    import itk

    io = _image_io(path)
    pixel = itk.UC if io.GetComponentSize() == 1 else itk.US
    reader = itk.ImageFileReader[itk.VectorImage[pixel, 2]].New(FileName=os.fspath(path))
    reader.Update()
    values = itk.array_from_image(reader.GetOutput())
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def _image(path: str | os.PathLike[str], values: np.ndarray, affine: np.ndarray, intensity: str) -> Image:
    """Values in the order (x, y[, z]) and the RAS affine that belongs to them."""
    if values.ndim > 3 and max(values.shape[3:]) > 1:
        raise InputError(f"{path} has {values.ndim} axes (a time series or channels); give one volume a file")
    pixels, scaling = to_uint16(path, values.reshape((*values.shape, 1)[:3]), intensity)
    if pixels.shape[2] == 1:
        across, down = nibabel.affines.voxel_sizes(affine)[:2]
        return Image(np.ascontiguousarray(pixels[:, :, 0].T), _positive((down, across)), scaling=scaling)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(pixels, affine))
    spacing = _positive(nibabel.affines.voxel_sizes(canonical.affine))
    return Image(np.ascontiguousarray(canonical.dataobj), spacing, scaling=scaling)


def _image_io(path: str | os.PathLike[str]) -> Any:
    """itk's reader of the file's format, with the header read."""
    import itk

    io = itk.ImageIOFactory.CreateImageIO(os.fspath(path), itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise InputError(f"{path} is in no format that itk reads; convert it")
    io.SetFileName(os.fspath(path))
    io.ReadImageInformation()
    return io


def _check_header(path: str | os.PathLike[str], max_pixels: int) -> None:
    io = _image_io(path)
    check_size(path, [io.GetDimensions(axis) for axis in range(io.GetNumberOfDimensions())], max_pixels)
    if io.GetNumberOfComponents() != 1:
        raise InputError(f"{path} has several values a pixel; give gray images")


def _ras_affine(image: Any) -> np.ndarray:
    """itk's geometry, which counts from right to left and front to back (LPS), as nibabel's, which does not (RAS)."""
    affine = np.eye(4)
    axes = image.GetImageDimension()
    direction = np.asarray(image.GetDirection())[:3, :3]
    affine[:axes, :axes] = (direction * np.asarray(image.GetSpacing()))[:3, :3]
    affine[:2] *= -1
    return affine


def _positive(spacing: Any) -> tuple[float, ...] | None:
    values = tuple(float(value) for value in spacing)
    return values if np.isfinite(values).all() and min(values) > 0 else None
