"""NIfTI through nibabel; MHA, MHD and NRRD through itk. Volumes are returned in RAS orientation."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from miram.errors import InputError
from miram.files import as_text, path_inside
from miram.readers.image import Image, check_content, check_size, inflated_size, naming_damage, to_uint16

NIFTI1_SIZE, NIFTI2_SIZE = 348, 540
# Where the headers of MHA, MHD and NRRD say that their pixels are: itk would read them from anywhere.
FIELDS = {
    "data": re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*([^\r\n]*)\r?\n", re.MULTILINE | re.IGNORECASE),
    "packed": re.compile(rb"^(?:CompressedData\s*=\s*true|encoding:[ \t]*gz)", re.MULTILINE | re.IGNORECASE),
    "skip": re.compile(rb"^(?:line|byte) ?skip:[ \t]*[^0\s]", re.MULTILINE | re.IGNORECASE),
}
NRRD_END = re.compile(rb"\r?\n\r?\n")
ZLIB, GZIP = zlib.MAX_WBITS, 16 + zlib.MAX_WBITS


def read_nifti(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a NIfTI volume, or a 2D image stored as one slice.

    A volume is reoriented to the closest canonical orientation: its axes run to the patient's right, front and head. A
    single slice is a 2D image and is not reoriented: its first axis on disk is the columns, as in itk and MONAI.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, colored, or has more than three axes.
    """
    with naming_damage(path):
        header = _nifti_header(path)
        check_size(path, header.get_data_shape(), max_pixels)
        _check_nifti_data(path, header)
        image = _image(path, _nifti_values(path, header), header.get_best_affine(), intensity)
    return image


def read_itk(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read an image or a volume in a format that itk supports (MHA, MHD, NRRD), oriented as by :func:`read_nifti`.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, has several values per pixel, or over three axes.
    """
    import itk  # here, since the import takes a second and is rarely needed

    try:
        _check_header(path, max_pixels)
        image = itk.imread(os.fspath(path))
        return _image(path, itk.array_from_image(image).T, _ras_affine(image), intensity)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # itk raises RuntimeError, and its wrapping TypeError and KeyError.
        raise InputError(f"{path} cannot be read by itk; it may be truncated or damaged, copy or convert it") from error


def itk_array(path: str | os.PathLike[str]) -> np.ndarray:
    """A 2D PNG or TIFF of 8 or 16 bit through itk: (H, W) or (H, W, channels)."""
    import itk

    io = image_io(path)
    pixel = itk.UC if io.GetComponentSize() == 1 else itk.US
    reader = itk.ImageFileReader[itk.VectorImage[pixel, 2]].New(FileName=os.fspath(path))
    reader.Update()
    values = itk.array_from_image(reader.GetOutput())
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def _image(path: str | os.PathLike[str], values: np.ndarray, affine: np.ndarray, intensity: str) -> Image:
    """Values in the order (x, y[, z]) and the RAS affine that belongs to them."""
    if values.ndim > 3 and max(values.shape[3:]) > 1:
        raise InputError(f"{path} has {values.ndim} axes (a time series or channels); give one volume per file")
    pixels, scaling = to_uint16(path, values.reshape((*values.shape, 1)[:3]), intensity)
    if pixels.shape[2] == 1:
        across, down = nibabel.affines.voxel_sizes(affine)[:2]
        return Image(np.ascontiguousarray(pixels[:, :, 0].T), _positive((down, across)), scaling=scaling)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(pixels, affine))
    spacing = _positive(nibabel.affines.voxel_sizes(canonical.affine))
    return Image(np.ascontiguousarray(canonical.dataobj), spacing, scaling=scaling)


def _nifti_header(path: str | os.PathLike[str]) -> nibabel.Nifti1Header:
    """The header of a NIfTI-1 or -2 file, without its extensions, which may claim any length."""
    with nibabel.openers.ImageOpener(os.fspath(path)) as stream:
        start = stream.read(NIFTI2_SIZE)
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    if not sizes & {NIFTI1_SIZE, NIFTI2_SIZE}:
        raise InputError(f"{path} is not a NIfTI file; remove it or export it again")
    kind, size = (nibabel.Nifti1Header, NIFTI1_SIZE) if NIFTI1_SIZE in sizes else (nibabel.Nifti2Header, NIFTI2_SIZE)
    return kind.from_fileobj(io.BytesIO(start[:size]))


def _nifti_values(path: str | os.PathLike[str], header: nibabel.Nifti1Header, spare: int = 2**26) -> np.ndarray:
    """
    The voxels, scaled if the header says so.

    A gzip file is read to its end, where its checksum and length are.

    Args:
        spare: bytes that may follow the voxels in a gzip file.
    """
    with gzip.open(path) if _is_gzip(path) else open(path, "rb") as stream:
        proxy = ArrayProxy(stream, header, mmap=False)
        scaled = (proxy.slope, proxy.inter) != (1, 0)
        values = np.asarray(proxy if scaled else proxy.get_unscaled())
        while _is_gzip(path) and (more := len(stream.read(2**20))):
            spare -= more
            if spare < 0:
                raise InputError(f"{path} continues far beyond its voxels; it is damaged, copy it again")
    return values


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(".gz")


def _check_nifti_data(path: str | os.PathLike[str], header: nibabel.Nifti1Header) -> None:
    """Refuse values that are not gray levels, and a file that is too short for what it claims."""
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds values of type {dtype}, which are not gray levels; convert it")
    if not 0 <= offset <= 2**28:  # a compressed file would be unpacked up to there
        raise InputError(f"{path} claims {offset} bytes before its voxels; it is damaged, copy it again")
    check_content(path, header.get_data_shape(), (1032 if _is_gzip(path) else 1) / dtype.itemsize)


def image_io(path: str | os.PathLike[str]) -> Any:
    """itk's reader of the file's format, with the header read."""
    import itk

    if as_text(path) != os.fspath(path):
        raise InputError(f"{path} has a name that is not UTF-8, which itk cannot open; rename the file")
    io = itk.ImageIOFactory.CreateImageIO(os.fspath(path), itk.CommonEnums.IOFileMode_ReadMode)
    if io is None:
        raise InputError(f"{path} is not in a format that itk reads; convert it")
    io.SetFileName(os.fspath(path))
    io.ReadImageInformation()
    return io


def _check_header(path: str | os.PathLike[str], max_pixels: int) -> None:
    io = image_io(path)
    check_size(path, [io.GetDimensions(axis) for axis in range(io.GetNumberOfDimensions())], max_pixels)
    if io.GetNumberOfComponents() != 1:
        raise InputError(f"{path} has several values per pixel; give gray images")
    check_data_file(path, int(io.GetImageSizeInBytes()))


def check_data_file(path: str | os.PathLike[str], size: int) -> None:
    """
    Check that the pixels are in the header's folder, and that deflated ones are complete and undamaged.

    itk leaves missing pixels as uninitialised memory, and does not verify the checksum of NRRD.

    Args:
        path: MHA, MHD, NRRD or NHDR.
        size: of the pixels in bytes, as claimed by the header.

    Raises:
        InputError: if the pixels are in another folder, in several files, or fewer or more than claimed.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        head = stream.read(2**16)
    is_nrrd = head.startswith(b"NRRD")
    end = NRRD_END.search(head) if is_nrrd else FIELDS["data"].search(head)
    head = head[: end.end()] if end else head
    found = FIELDS["data"].search(head)
    name = found[1].decode(errors="replace").strip() if found else "LOCAL"  # NRRD does not name its own file
    if name.upper() == "LOCAL":
        data, offset = path, len(head) if end else 0
    elif name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} has its pixels in several files; convert it to one .mha or .nrrd")
    else:
        data, offset = _beside(path, name), 0
    if size > 1032 * data.stat().st_size:  # deflate expands a byte to at most 1,032
        raise InputError(f"{path} is truncated: {data.stat().st_size} bytes cannot hold the {size} that it claims")
    if FIELDS["packed"].search(head):
        if FIELDS["skip"].search(head):
            raise InputError(f"{path} skips a part of its packed pixels; convert it to .mha or .nii.gz")
        _check_packed(path, data, offset, size, GZIP if is_nrrd else ZLIB)


def _beside(path: Path, name: str) -> Path:
    try:
        return path_inside(path.parent, name)
    except InputError as error:
        raise InputError(f"{path} refers to pixels elsewhere: {error}") from error


def _check_packed(path: Path, data: Path, offset: int, size: int, wbits: int) -> None:
    with open(data, "rb") as stream:
        stream.seek(offset)
        inflated = inflated_size(stream, size, wbits)
    if inflated != size:
        raise InputError(f"{path} holds {inflated} of {size} bytes of pixels; it is damaged, copy or convert it")


def _ras_affine(image: Any) -> np.ndarray:
    """itk's affine, whose axes point to the left and back (LPS), converted to nibabel's RAS."""
    affine = np.eye(4)
    axes = image.GetImageDimension()
    direction = np.asarray(image.GetDirection())[:3, :3]
    affine[:axes, :axes] = (direction * np.asarray(image.GetSpacing()))[:3, :3]
    affine[:2] *= -1
    return affine


def _positive(spacing: Any) -> tuple[float, ...] | None:
    values = tuple(float(value) for value in spacing)
    return values if np.isfinite(values).all() and min(values) > 0 else None
