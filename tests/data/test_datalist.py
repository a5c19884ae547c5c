"""The data list's contract, and splits by patient."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miram.data.datalist import (
    as_samples,
    describe,
    load_split,
    read_datalist,
    read_prepared,
    says_generated,
    split_by_patient,
    write_datalist,
)
from miram.data.datalist import test_items as load_test_items
from miram.errors import InputError


def item(patient: str, number: int = 0, **values: Any) -> dict[str, Any]:
    return {"image": f"images/{patient}_{number}.png", "mask": None, "patient": patient} | values


def datalist(**splits: Any) -> dict[str, Any]:
    return {"name": "x", "training": [], "validation": [], "test": []} | splits


def test_a_description_names_the_data_and_changes_with_it(tmp_path: Path) -> None:
    hashes = set()
    for patient in ("a", "b"):
        write_datalist(tmp_path, datalist(training=[item(patient)], generated=True))
        facts = describe(tmp_path)
        assert (facts["name"], facts["source"], facts["generated"]) == ("x", None, True)
        hashes.add(facts["sha256"])
    assert len(hashes) == 2


def test_what_is_written_is_read_with_unknown_keys(tmp_path: Path) -> None:
    written = datalist(training=[item("é")], validation=[item("b")], extra={"a": [1]})
    write_datalist(tmp_path, written)
    assert read_datalist(tmp_path) == written


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (datalist(training=[item("a")], test=[item("a", 1)]), "patient 'a' is in both 'training' and 'test'"),
        (
            datalist(training=[item("a")], validation=[item("b", image="images/a_0.png")]),
            r"image 'images/a_0\.png' is in both",
        ),
        (datalist(training=[item("a", image="../a.png")]), "leaves its folder"),
        (datalist(training=[item("a", mask="/etc/passwd")]), "leaves its folder"),
        (datalist(training=[{"image": "a.png"}]), "item 0 of 'training' has no text under 'patient'"),
        (datalist(training=["a.png"]), "item 0 of 'training'"),
        ({"training": []}, "'validation' is missing"),
        ([], "is not a data list"),
    ],
)
def test_broken_lists_are_neither_written_nor_read(tmp_path: Path, broken: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_datalist(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "datalist.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match=message):
        read_datalist(tmp_path)


def test_missing_and_damaged_lists_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*scripts/prepare_folder\.py"):
        read_datalist(tmp_path)
    (tmp_path / "datalist.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_datalist(tmp_path)


def test_a_split_comes_with_absolute_paths(tmp_path: Path) -> None:
    for name in ("images/a_0.png", "masks/a_0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    write_datalist(tmp_path, datalist(training=[item("a", mask="masks/a_0.png", density=2)]))
    assert load_split(tmp_path, "training") == [
        {
            "image": str(tmp_path / "images/a_0.png"),
            "mask": str(tmp_path / "masks/a_0.png"),
            "patient": "a",
            "density": 2,
        }
    ]


def test_splits_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write_datalist(tmp_path, datalist(training=[item("a"), item("a", 1)]))
    for split, message in (("training", "2 files .* are missing"), ("test", "is empty"), ("train", "is not one of")):
        with pytest.raises(InputError, match=message):
            load_split(tmp_path, split)


@pytest.mark.parametrize(
    ("patients", "fraction", "expected"),
    [(10, 0.2, 2), (10, 0.0, 0), (2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (7, 0.5, 4)],
)
def test_the_number_of_validation_patients(patients: int, fraction: float, expected: int) -> None:
    items = [item(f"p{patient}", number) for patient in range(patients) for number in range(3)]
    training, validation = split_by_patient(items, fraction)
    held_out = {one["patient"] for one in validation}
    assert len(held_out) == expected
    assert len(validation) == 3 * expected
    assert held_out.isdisjoint(one["patient"] for one in training)
    assert sorted(map(str, training + validation)) == sorted(map(str, items))


def test_the_split_hangs_on_the_seed_and_the_order_alone() -> None:
    items = [item(f"p{patient}") for patient in range(30)]
    renamed = [item(f"q{patient}") for patient in range(30)]
    held_out = [one["patient"][1:] for one in split_by_patient(items, 0.2, seed=1)[1]]
    assert held_out == [one["patient"][1:] for one in split_by_patient(renamed, 0.2, seed=1)[1]]
    assert held_out != [one["patient"][1:] for one in split_by_patient(items, 0.2, seed=2)[1]]


def as_whole(one: dict[str, Any]) -> dict[str, Any]:
    """The item of a whole image, which lists its lesions."""
    return {"image": one["image"], "patient": one["patient"], "lesions": [{"pathology": one["pathology"]}]}


@pytest.mark.parametrize("seed", range(5))
def test_strata_keep_their_shares(seed: int) -> None:
    classes = ["benign"] * 50 + ["malignant"] * 30 + ["both"] * 20
    items = [
        item(
            f"p{number}", lesion, pathology="malignant" if kind == "both" and lesion else kind.replace("both", "benign")
        )
        for number, kind in enumerate(classes)
        for lesion in range(2)
    ]
    _, validation = split_by_patient(items, 0.2, seed, "pathology")
    _, of_whole = split_by_patient([as_whole(one) for one in items], 0.2, seed, "pathology")
    assert [as_whole(one) for one in validation] == of_whole
    by_patient: dict[str, set[str]] = {}
    for one in validation:
        by_patient.setdefault(one["patient"], set()).add(one["pathology"])
    counts = Counter("+".join(sorted(values)) for values in by_patient.values())
    assert counts == {"benign": 10, "benign+malignant": 4, "malignant": 6}


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"fraction is .*; give 0"):
        split_by_patient([item("a")], fraction)


def test_generated_data_are_recognised() -> None:
    assert says_generated({"name": "x", "source": "Generated by a script"})
    assert not says_generated({"name": "CBIS-DDSM", "source": "TCIA"})
    assert says_generated({"name": "CBIS-DDSM", "source": "TCIA", "generated": True})
    assert not says_generated({"name": "generated_later", "source": "a folder of images", "generated": False})


def test_samples_name_their_image_and_place() -> None:
    samples = as_samples([item("a"), item("b")], key="label")
    assert samples == [{"label": "images/a_0.png", "index": 0}, {"label": "images/b_0.png", "index": 1}]


def test_what_a_list_says_of_its_crops_and_test_patients(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a_0.png").touch()
    write_datalist(tmp_path, datalist(test=[item("a")], prepared={"crop_size": 64}))
    assert read_prepared(tmp_path) == {"crop_size": 64}
    assert [one["patient"] for one in load_test_items(tmp_path, allowed=True)] == ["a"]
    assert load_test_items(tmp_path, allowed=False) == []
