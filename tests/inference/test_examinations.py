import numpy as np
import pytest

from miram.errors import InputError
from miram.inference.examinations import Numbers, check_view, said_by_name

from ..exam_case import make_view


@pytest.mark.parametrize(
    ("name", "patient", "side", "view"),
    [
        ("anna_L_CC.png", "anna", "LEFT", "CC"),
        ("12/right_mlo.dcm", "12", "RIGHT", "MLO"),
        ("12_LMLO.png", "12", "LEFT", "MLO"),
        ("LCC.png", "unnamed", "LEFT", "CC"),
        ("00007_RIGHT_CC.nii.gz", "00007", "RIGHT", "CC"),
        ("scan.png", "scan", None, None),
    ],
)
def test_a_file_name_tells_patient_side_and_view(name, patient, side, view):
    assert said_by_name(name) == {"patient": patient, "laterality": side, "view": view}


def test_a_crop_is_refused_and_told_where_to_go():
    view = make_view(False, np.random.default_rng(0))
    check_view("view.png", view, smallest=96)
    with pytest.raises(InputError, match=r"looks like a crop.*inference.yaml"):
        check_view("view.png", view, smallest=97)


def test_numbers_hide_what_they_stand_for():
    numbers = Numbers("patient")
    assert [numbers.of(name) for name in ("x", None, "y", "x")] == [
        "patient_0001",
        None,
        "patient_0002",
        "patient_0001",
    ]
