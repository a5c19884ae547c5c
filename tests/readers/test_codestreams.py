"""What compressed images say of themselves."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from miram.errors import InputError
from miram.readers.codestreams import JPEG2000_START, JPEG_START, check_codestream
from miram.readers.formats import read_image
from miram.readers.pydicom_versions import pixel_fragments

from ..image_files import picture, save, write_jpeg_lossless


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
