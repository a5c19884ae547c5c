"""Transfer syntaxes that are read or named, and files without a preamble."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from miram.errors import InputError
from miram.readers.dicom import read_dicom
from miram.readers.dicom_file import JPEG2000_START, JPEG_START, check_codestream, pixel_fragments
from miram.readers.formats import read_image

from ..image_files import dataset, picture, save, write_dicom, write_jpeg_lossless

LIMIT = 10**6
UNREADABLE = {
    "1.2.840.10008.1.2.4.52": "JPEG Extended",
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Part 2",
    "1.2.840.10008.1.2.4.94": "JPIP Referenced",
    "1.2.840.10008.1.2.4.95": "JPIP Referenced Deflate",
    "1.2.840.10008.1.2.4.100": "MPEG2",
    "1.2.840.10008.1.2.4.102": "MPEG-4",
    "1.2.840.10008.1.2.4.107": "HEVC",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame",
    "1.2.840.10008.1.2.1.98": "Encapsulated Uncompressed",
    "1.2.840.113619.5.2": "private or unknown",
}


@pytest.mark.parametrize(("syntax", "frames"), product(UNREADABLE, (1, 30)))
def test_a_syntax_that_no_codec_reads_is_named(tmp_path: Path, syntax: str, frames: int) -> None:
    result = dataset(picture(8), NumberOfFrames=frames, PixelData=encapsulate([b"stream" * 100]))
    result["PixelData"].is_undefined_length = True
    content = save(tmp_path / "a.dcm", result).read_bytes()
    names = (ExplicitVRLittleEndian, syntax)
    before, after = (
        b"\x02\0\x10\0UI" + len(padded).to_bytes(2, "little") + padded
        for padded in (name.encode() + b"\0" * (len(name) % 2) for name in names)
    )
    assert before in content
    length = int.from_bytes(content[140:144], "little") + len(after) - len(before)
    content = content[:140] + length.to_bytes(4, "little") + content[144:].replace(before, after)
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.dcm is in a transfer syntax.*{UNREADABLE[syntax]}.*transcode") as error:
        read_dicom(tmp_path / "a.dcm", LIMIT)
    assert syntax in str(error.value)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_a_preamble_is_read(tmp_path: Path, implicit: bool, little: bool) -> None:
    result = dataset(picture(16))
    del result.file_meta
    if not little:
        result.PixelData = picture(16).astype(">u2").tobytes()
    result.save_as(tmp_path / "a.dcm", implicit_vr=implicit, little_endian=little)
    np.testing.assert_array_equal(read_dicom(tmp_path / "a.dcm", LIMIT).pixels, picture(16))


def test_a_compressed_data_set_without_a_preamble_is_refused(tmp_path: Path) -> None:
    result = dataset(picture(8), PixelData=encapsulate([b"stream" * 100]))
    result["PixelData"].is_undefined_length = True
    del result.file_meta
    result.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match=r"a\.dcm is compressed but does not say how"):
        read_dicom(tmp_path / "a.dcm", LIMIT)


def test_a_lost_preamble_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture(8))
    path.write_bytes(path.read_bytes()[132:])
    with pytest.raises(InputError, match=r"a\.dcm lacks the preamble"):
        read_dicom(path, LIMIT)


@pytest.mark.parametrize("content", [b"\x08\0" + b"not DICOM" * 100, b"not DICOM" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.dcm is not a (readable )?DICOM file"):
        read_dicom(tmp_path / "a.dcm", LIMIT)


def test_the_start_of_jpeg_2000_within_a_jpeg_is_data(tmp_path):
    """Four bytes that come by chance: in a mammogram of JPEG-LS they did."""
    stored = picture(12, (40, 30))
    path = write_jpeg_lossless(tmp_path / "a.dcm", stored, 12)
    expected = read_image(path).pixels
    header = pydicom.dcmread(path)
    (stream,) = pixel_fragments(header.PixelData)
    body = JPEG2000_START + bytes(range(30))
    comment = b"\xff\xfe" + (len(body) + 2).to_bytes(2, "big") + body
    header.PixelData = encapsulate([JPEG_START + comment + stream[2:]])
    assert np.array_equal(read_image(save(tmp_path / "b.dcm", header)).pixels, expected)


def test_another_size_than_the_headers_is_refused(tmp_path):
    header = pydicom.dcmread(write_jpeg_lossless(tmp_path / "a.dcm", picture(12, (40, 30)), 12))
    check_codestream("a.dcm", header)
    header.Rows = 41
    with pytest.raises(InputError, match=r"its header says 41x30 pixels, its compressed image 40x30"):
        check_codestream("a.dcm", header)


def test_a_stream_without_a_frame_is_refused(tmp_path):
    header = pydicom.dcmread(write_jpeg_lossless(tmp_path / "a.dcm", picture(12, (40, 30)), 12))
    header.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    with pytest.raises(InputError, match="no frame header"):
        check_codestream("a.dcm", header)
