"""What a header tells besides its pixels."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from miram.errors import InputError
from miram.readers.dicom import read_dicom
from miram.readers.dicom_facts import notices, numbers, text, texts

from ..image_files import dataset, picture, save, write_dicom

LIMIT = 10**6
WINDOW = {"WindowCenter": 2000, "WindowWidth": 3001}


def with_raw(result: Dataset, name: str, vr: str, value: bytes) -> Dataset:
    """The data set with an element as a device wrote it."""
    result[Tag(name)] = RawDataElement(Tag(name), vr, len(value), value, 0, False, True)
    return result


@pytest.mark.parametrize(
    ("value", "expected"), [(b"0,07\\0.08", [0.07, 0.08]), (b"", []), (b"  ", []), (b"\\", []), (b" 1 ", [1.0])]
)
def test_numbers_are_read_as_they_are_written(value: bytes, expected: list[float]) -> None:
    assert numbers(with_raw(Dataset(), "PixelSpacing", "DS", value), "PixelSpacing") == expected


def test_what_is_not_a_number_is_told() -> None:
    found = numbers(with_raw(Dataset(), "PixelSpacing", "DS", b"0.1\\unknown\\1e999"), "PixelSpacing")
    assert found[0] == 0.1
    assert all(isnan(value) for value in found[1:])


def test_text_loses_its_padding() -> None:
    assert text(with_raw(Dataset(), "VOILUTFunction", "CS", b" linear "), "VOILUTFunction") == "LINEAR"
    assert texts(Dataset(), "VOILUTFunction") == []


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        *((name, "DS", b"") for name in ("RescaleSlope", "RescaleIntercept", "PixelSpacing")),
        *((name, "DS", b"unknown ") for name in ("PixelSpacing", "ImagerPixelSpacing")),
        *((name, "US", b"") for name in ("HighBit", "BitsStored", "PixelRepresentation", "SamplesPerPixel")),
        *((name, "CS", b" ") for name in ("VOILUTFunction", "ImageLaterality", "ViewPosition", "PresentationLUTShape")),
        ("PixelPaddingValue", "US", b""),
        ("NumberOfFrames", "IS", b"  "),
        ("VOILUTFunction", "CS", b" LINEAR "),
        ("PhotometricInterpretation", "CS", b" monochrome2"),
    ],
)
def test_an_odd_element_does_not_lose_the_image(tmp_path: Path, name: str, vr: str, value: bytes) -> None:
    expected = read_dicom(write_dicom(tmp_path / "a.dcm", picture(16), **WINDOW), LIMIT)
    image = read_dicom(save(tmp_path / "b.dcm", with_raw(dataset(picture(16), **WINDOW), name, vr, value)), LIMIT)
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    assert image.remarks == ()


@pytest.mark.parametrize("name", ["PhotometricInterpretation", "BitsAllocated"])
def test_what_pixels_cannot_be_read_without_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "a.dcm", with_raw(dataset(picture(8)), name, "CS" if name[0] == "P" else "US", b""))
    with pytest.raises(InputError, match=rf"a\.dcm lacks {name}"):
        read_dicom(path, LIMIT)


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups_of_a_single_frame_are_read(tmp_path: Path, place: str) -> None:
    macros = {
        "FrameVOILUTSequence": WINDOW | {"VOILUTFunction": "LINEAR_EXACT"},
        "PixelMeasuresSequence": {"PixelSpacing": [0.07, 0.08]},
        "PixelValueTransformationSequence": {"RescaleSlope": 2, "RescaleIntercept": -7},
        "FrameAnatomySequence": {"FrameLaterality": "R"},
        "ViewCodeSequence": {"CodeValue": "399162004"},
    }
    group = Dataset()
    for name, elements in macros.items():
        macro = Dataset()
        for keyword, value in elements.items():
            setattr(macro, keyword, value)
        setattr(group, name, [macro])
    plain = WINDOW | {"VOILUTFunction": "LINEAR_EXACT", "RescaleSlope": 2, "RescaleIntercept": -7}
    expected = read_dicom(write_dicom(tmp_path / "a.dcm", picture(12), 12, **plain), LIMIT)
    image = read_dicom(write_dicom(tmp_path / "b.dcm", picture(12), 12, **{place: [group]}), LIMIT)
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    assert image.scaling == "window of the header"
    assert (image.spacing, image.laterality, image.view) == ((0.07, 0.08), "RIGHT", "CC")


RAW = "1.2.840.10008.5.1.4.1.1.1.2.1"


def view_code(value: str, *modifiers: str) -> list[Dataset]:
    codes = []
    for code in (value, *modifiers):
        codes.append(Dataset())
        codes[-1].CodeValue = code
    codes[0].ViewModifierCodeSequence = codes[1:]
    return codes[:1]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ViewPosition": "CC"}, []),
        ({"BreastImplantPresent": "NO", "PresentationLUTShape": "IDENTITY"}, []),
        ({"PresentationIntentType": "FOR PROCESSING"}, ["for_processing"]),
        ({"SOPClassUID": RAW}, ["for_processing"]),
        ({"SOPClassUID": RAW, "PresentationIntentType": "FOR PRESENTATION"}, []),
        ({"ViewPosition": "XCCL"}, ["other_views"]),
        ({"ViewCodeSequence": view_code("399260004")}, ["other_views"]),
        ({"ViewCodeSequence": view_code("399162004")}, []),
        ({"ViewCodeSequence": view_code("R-10242", "R-102D7")}, ["other_views"]),
        ({"ViewPosition": "MLO", "EstimatedRadiographicMagnificationFactor": "1.8"}, ["other_views"]),
        ({"ViewPosition": "MLO", "EstimatedRadiographicMagnificationFactor": "1.08"}, []),
        ({"BreastImplantPresent": "YES"}, ["implants"]),
        ({"ViewCodeSequence": view_code("399162004", "399209000")}, ["other_views", "implants"]),
        ({"PresentationLUTShape": "INVERSE"}, ["inverse_lut"]),
        ({"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, []),
    ],
)
def test_what_may_mislead_is_noticed(tmp_path: Path, elements: dict[str, Any], expected: list[str]) -> None:
    assert notices(read_dicom(write_dicom(tmp_path / "a.dcm", picture(), **elements), LIMIT).header) == expected


def test_a_view_is_named_with_its_modifiers(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture(), ViewCodeSequence=view_code("399162004", "399163009", "399055006"))
    image = read_dicom(path, LIMIT)
    assert image.view == "CC"
    assert image.header["view"] == "CC, magnification, spot compression"


def test_values_beyond_bits_stored_are_noticed_and_signs_are_not(tmp_path: Path) -> None:
    stored = picture(12)
    stored[0, :48] |= 0x4000
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, 12), LIMIT)
    assert image.header["beyond_bits_stored"] == "0.62% of the pixels"
    assert notices(image.header) == ["beyond_bits_stored"]
    signed = (picture(12).astype(int) - 2048).astype(np.int16)
    assert notices(read_dicom(write_dicom(tmp_path / "b.dcm", signed, 12), LIMIT).header) == []


def test_only_known_terms_leave_the_header(tmp_path: Path) -> None:
    names = ("PresentationIntentType", "PresentationLUTShape", "BreastImplantPresent", "ViewPosition")
    image = read_dicom(write_dicom(tmp_path / "a.dcm", picture(), **dict.fromkeys(names, "DOE JANE")), LIMIT)
    assert "DOE" not in repr(image)


def test_the_study_is_kept_and_not_shown(tmp_path: Path) -> None:
    image = read_dicom(write_dicom(tmp_path / "a.dcm", picture(), PatientID="", StudyInstanceUID="1.2.3.4"), LIMIT)
    assert (image.patient, image.study) == (None, "1.2.3.4")
    assert "1.2.3.4" not in repr(image)
