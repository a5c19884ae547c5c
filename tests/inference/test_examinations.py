import pytest

from miram.inference.examinations import Numbers, said_by_name


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


def test_numbers_hide_what_they_stand_for():
    numbers = Numbers("patient")
    assert [numbers.of(name) for name in ("x", None, "y", "x")] == [
        "patient_0001",
        None,
        "patient_0002",
        "patient_0001",
    ]
