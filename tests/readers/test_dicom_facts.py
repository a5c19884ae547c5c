"""What a header tells besides its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from miram.readers.dicom import read_dicom
from miram.readers.dicom_facts import notices

from ..image_files import picture, write_dicom

LIMIT = 10**6
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
