"""Opening a DICOM file: its transfer syntax, and the elements that are needed."""

from __future__ import annotations

import os

import pydicom
from pydicom.dataset import FileDataset
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
from miram.readers.codestreams import check_inflated
from miram.readers.pydicom_versions import original_syntax

# The only elements that are read: names, dates and the like never enter memory, except those in functional groups.
TAGS = (
    *("TransferSyntaxUID", "SOPClassUID", "PatientID", "StudyInstanceUID", "NumberOfFrames", "Rows", "Columns"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter"),
    *("WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "LossyImageCompression", "PresentationIntentType"),
    *("PresentationLUTShape", "BreastImplantPresent", "EstimatedRadiographicMagnificationFactor"),
    *("ImageLaterality", "Laterality", "ViewPosition", "ViewCodeSequence"),
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
            _check_syntax(path, read_file_meta_info(path).get("TransferSyntaxUID"))
            check_inflated(path, 4 * max_pixels + 2**26)  # at most three bytes per pixel, and the rest of the header
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
