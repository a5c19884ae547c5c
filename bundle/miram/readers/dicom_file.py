"""Opening a DICOM file: its transfer syntax, the elements that are needed, and what it claims of its pixels."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from miram.errors import InputError
from miram.readers.image import inflated_size

# pydicom 2 and 3 name these functions differently. MONAI Label, which serves packaged bundles, needs pydicom 2.
IS_VERSION_2 = pydicom.__version__.startswith("2.")

if IS_VERSION_2:
    from pydicom.encaps import decode_data_sequence
else:
    from pydicom.encaps import generate_fragments

# The only elements that are read: names, dates and the like never enter memory, except those in functional groups.
TAGS = (
    *("TransferSyntaxUID", "SOPClassUID", "PatientID", "StudyInstanceUID", "NumberOfFrames", "Rows", "Columns"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter"),
    *("WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "LossyImageCompression", "PresentationIntentType"),
    *("PresentationLUTShape", "BreastImplantPresent", "EstimatedRadiographicMagnificationFactor"),
    *("ImageLaterality", "Laterality", "ViewPosition", "ViewCodeSequence", "Modality"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"  # pydicom 2 and 3 use its name for different syntaxes
READABLE = (
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEG_LOSSLESS, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless),
    *(JPEG2000Lossless, JPEG2000, RLELossless),
)
# Named here until pydicom's dictionary has them.
NEW_SYNTAXES = {
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
# Frame headers of JPEG (ITU-T T.81, table B.1, without DHT, JPG and DAC) and of JPEG-LS (T.87).
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
JPEG_START, JPEG2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
TRANSCODE = "transcode it, for example to Explicit VR Little Endian or JPEG 2000"


def read_header(path: str | os.PathLike[str], max_pixels: int) -> FileDataset:
    """
    Read the elements that are needed, including the pixel data, still encoded.

    A data set without preamble and file meta information is also read, if it begins like a data set.

    Raises:
        InputError: if the file is not DICOM, damaged, or in a transfer syntax that cannot be decoded here.
    """
    try:
        bare = _is_bare(path)
        if not bare:
            meta = read_file_meta_info(path)
            _check_syntax(path, meta.get("TransferSyntaxUID"))
            # at most three bytes per pixel, and the rest of the header
            _check_inflated(path, meta, limit=4 * max_pixels + 2**26)
        header = pydicom.dcmread(path, force=bare, specific_tags=list(TAGS))
        return _with_syntax(path, header)
    except (InputError, MemoryError):
        raise
    except InvalidDicomError:
        raise InputError(f"{path} is not a DICOM file; remove it or export it again") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
            raise
        raise InputError(
            f"{path} is not a readable DICOM file ({type(error).__name__}); copy or export it again"
        ) from None


def _is_bare(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a bare data set: it begins with an element of group 8, and has no preamble."""
    with open(path, "rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return False
    if start.startswith(b"\x02\0"):
        raise InputError(
            f"{path} lacks the preamble of a DICOM file (128 bytes and DICM before the file meta information); "
            "export it again"
        )
    return start.startswith((b"\x08\0", b"\0\x08"))


def _check_syntax(path: str | os.PathLike[str], syntax: str | None) -> None:
    """Refuse, by name, a syntax that no decoder here reads, before parsing a data set that may itself be compressed."""
    if not syntax or syntax in READABLE:
        return
    name = NEW_SYNTAXES.get(syntax, UID(syntax).name)
    name = f"{name}, {syntax}" if name != syntax else f"{syntax}, private or unknown"
    raise InputError(f"{path} is in a transfer syntax that no decoder here reads ({name}); {TRANSCODE}")


def _with_syntax(path: str | os.PathLike[str], header: FileDataset) -> FileDataset:
    """The header with the transfer syntax that was detected, if the file does not name it."""
    if header.file_meta.get("TransferSyntaxUID"):
        return header
    if "Rows" not in header and "SOPClassUID" not in header:
        raise InvalidDicomError
    if "PixelData" in header and header["PixelData"].is_undefined_length:
        raise InputError(
            f"{path} is compressed but does not say how (it lacks the preamble or TransferSyntaxUID); export it again"
        )
    header.file_meta.TransferSyntaxUID = original_syntax(header)
    return header


def _check_inflated(path: str | os.PathLike[str], meta: FileMetaDataset, limit: int) -> None:
    """Refuse a deflated data set of more than `limit` bytes: pydicom inflates all of it."""
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    with open(path, "rb") as stream:
        stream.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        size = inflated_size(stream, limit, -zlib.MAX_WBITS)
    if size > limit:
        raise InputError(f"{path} inflates to more than {limit} bytes; raise max_pixels if it is really that large")


def check_codestream(path: str | os.PathLike[str], header: FileDataset) -> None:
    """
    Check that a compressed image has the size in its DICOM header: decoders use the size in the codestream.

    Raises:
        InputError: if the sizes differ, or the codestream's cannot be found.
    """
    if header.file_meta.TransferSyntaxUID == RLELossless:
        return  # it does not contain a size
    stream = b"".join(fragment for fragment in pixel_fragments(header.PixelData) if fragment)
    # JPEG 2000's start marker may occur in JPEG data by chance, so the first bytes decide
    size = _jpeg_size(stream) if stream.startswith(JPEG_START) else _jpeg2000_size(stream)
    if size is None:
        raise InputError(f"{path} holds no complete image (no frame header); copy or export it again")
    if size != (header.Rows, header.Columns):
        raise InputError(
            f"{path} is damaged: its header says {header.Rows}x{header.Columns} pixels, its compressed image "
            f"{size[0]}x{size[1]}; copy or export it again"
        )


def _jpeg2000_size(stream: bytes) -> tuple[int, int] | None:
    """(height, width) from the SIZ marker (ITU-T T.800, A.5.1), also in a JP2 file."""
    start = stream.find(JPEG2000_START)
    if start < 0 or len(stream) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", stream[start + 8 : start + 24])
    return bottom - top, right - left


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """(height, width) from the first frame header of a JPEG or JPEG-LS."""
    place = len(JPEG_START)
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker in FRAMES:
            height, width = struct.unpack(">2H", stream[place + 5 : place + 9])
            return height, width
        place += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def original_syntax(header: FileDataset) -> UID:
    """The uncompressed transfer syntax that was detected for a data set whose file does not name it."""
    implicit, little = (
        (header.read_implicit_vr, header.read_little_endian) if IS_VERSION_2 else header.original_encoding
    )
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def pixel_fragments(pixel_data: bytes) -> list[bytes]:
    """The fragments of a compressed image, without the first, which is the offset table."""
    return decode_data_sequence(pixel_data) if IS_VERSION_2 else list(generate_fragments(pixel_data))[1:]


def stored_values(header: FileDataset) -> np.ndarray:
    """
    Decode an image with one named decoder, whatever others are installed.

    Returns:
        (H, W) or (H, W, samples), with all allocated bits.
    """
    syntax = header.file_meta.TransferSyntaxUID
    rle, compressed = syntax == RLELossless, syntax.is_encapsulated
    if not IS_VERSION_2:
        plugin = "pydicom" if rle else "gdcm"
        # pydicom's own masking assumes that the stored bits are the lowest; ours uses HighBit
        options: dict[str, Any] = {"decoding_plugin": plugin if compressed else "", "correct_unused_bits": False}
        header.pixel_array_options(**options)
    elif compressed:
        header.convert_pixel_data("rle" if rle else "gdcm")
    values = header.pixel_array
    return values.astype(values.dtype.newbyteorder("="), copy=False)
