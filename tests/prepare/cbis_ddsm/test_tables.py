from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.tables import (
    LABEL_NAMES,
    absent_test_tables,
    label_names,
    lesion_labels,
    patient_pathologies,
    patients_in_test,
    read_tables,
)


def read(miniature: Any) -> list[Any]:
    miniature.write_tables()
    return read_tables(miniature.csv_dir)


def test_published_tables_are_read_whole(real_tables: Path) -> None:
    rows = read_tables(real_tables)
    assert len(rows) == 3568
    assert len({row.patient for row in rows}) == 1566
    assert len({row.image_series for row in rows}) == 3103
    assert len({row.name for row in rows}) == 3568


@pytest.mark.parametrize(
    ("table", "rows", "patients", "images", "pathologies", "lesions"),
    [
        ("mass_case_description_train_set.csv", 1318, 691, 1231, (577, 104, 637), 782),
        ("mass_case_description_test_set.csv", 378, 201, 361, (194, 37, 147), 223),
        ("calc_case_description_train_set.csv", 1546, 602, 1227, (528, 474, 544), 856),
        ("calc_case_description_test_set.csv", 326, 151, 284, (130, 67, 129), 189),
    ],
)
def test_published_counts(
    real_tables: Path, table: str, rows: int, patients: int, images: int, pathologies: tuple[int, ...], lesions: int
) -> None:
    own = [row for row in read_tables(real_tables) if row.source.startswith(table)]
    counts = Counter(row.pathology for row in own)
    assert (len(own), len({row.patient for row in own}), len({row.image_series for row in own})) == (
        rows,
        patients,
        images,
    )
    assert tuple(counts[name] for name in LABEL_NAMES["pathology"]) == pathologies
    assert len({row.lesion for row in own}) == lesions
    assert {row.split for row in own} == {"test" if "test" in table else "training"}


def test_published_vocabulary_is_the_label_names(real_tables: Path) -> None:
    rows = read_tables(real_tables)
    for task in rows[0].descriptors:
        assert {term for row in rows for term in row.descriptors[task] or []} == set(LABEL_NAMES[task])
    for task in ("pathology", "abnormality", "density", "assessment", "subtlety"):
        assert {getattr(row, task) for row in rows} - {None} == set(LABEL_NAMES[task])
    assert label_names(rows) == LABEL_NAMES


def test_published_patients_in_both_lists(real_tables: Path) -> None:
    rows = read_tables(real_tables)
    leaking = [row for row in rows if row.split == "training" and row.patient in patients_in_test(rows)]
    assert len(leaking) == 83
    assert len({row.patient for row in leaking}) == 31


def test_published_views_that_disagree(real_tables: Path) -> None:
    rows = read_tables(real_tables)
    labels = lesion_labels(rows)
    assert len(labels) == 2050
    margins: dict[str, set[str]] = {}
    for row in rows:
        margins.setdefault(row.lesion, set()).add(str(row.descriptors["mass_margins"]))
    assert sum(len(sets) > 1 for sets in margins.values()) == 115
    assert len({row.lesion for row in rows if labels[row.lesion]["pathology"] != row.pathology}) == 6


def test_published_density_and_subtlety_zero_are_unknown(real_tables: Path) -> None:
    rows = read_tables(real_tables)
    assert sum(row.density is None for row in rows) == 2
    assert sum(row.subtlety is None for row in rows) == 2
    assert sum(row.assessment == 0 for row in rows) == 238


@pytest.mark.parametrize(
    ("table", "column", "cell", "task", "terms"),
    [
        ("mass_train", "mass margins", "SPICULATED-ILL_DEFINED", "mass_margins", ["ILL_DEFINED", "SPICULATED"]),
        ("mass_train", "mass margins", "N/A", "mass_margins", None),
        ("mass_train", "mass shape", "", "mass_shape", None),
        ("calc_train", "calc type", "PLEOMORPHIC-PLEOMORPHIC", "calc_type", ["PLEOMORPHIC"]),
        ("calc_train", "calc type", "LUCENT_CENTERED-COARSE", "calc_type", ["COARSE", "LUCENT_CENTER"]),
        ("calc_train", "calc distribution", "N/A", "calc_distribution", None),
    ],
)
def test_joined_terms(miniature: Any, table: str, column: str, cell: str, task: str, terms: list[str] | None) -> None:
    miniature.add(table, **{column: cell})
    assert read(miniature)[0].descriptors[task] == terms


def test_terms_of_the_other_type_are_unknown(miniature: Any) -> None:
    miniature.add("mass_train")
    assert read(miniature)[0].descriptors["calc_type"] is None


@pytest.mark.parametrize(("table", "column"), [("mass_train", "breast_density"), ("calc_train", "breast density")])
@pytest.mark.parametrize(("cell", "density"), [("3", 3), ("0", None), ("N/A", None), ("", None)])
def test_both_spellings_of_density(miniature: Any, table: str, column: str, cell: str, density: int | None) -> None:
    miniature.add(table, **{column: cell})
    assert read(miniature)[0].density == density


def test_paths_give_series_and_lose_their_newline(miniature: Any) -> None:
    miniature.add(separate=True)
    row = read(miniature)[0]
    cells = miniature.rows["mass_case_description_train_set.csv"][0]
    assert cells["ROI mask file path"].endswith("\n")
    assert row.image_series == cells["image file path"].split("/")[2]
    assert row.lesion_series == (
        cells["cropped image file path"].split("/")[2],
        cells["ROI mask file path"].split("/")[2],
    )


def test_lesions_of_one_number_and_two_types_differ(miniature: Any) -> None:
    miniature.add("mass_train")
    miniature.add("calc_train")
    assert [row.lesion for row in read(miniature)] == ["mass_P_00001_LEFT_1", "calcification_P_00001_LEFT_1"]


def test_lesion_takes_worst_pathology_and_all_terms(miniature: Any) -> None:
    miniature.add(view="CC", pathology="BENIGN", **{"mass margins": "OBSCURED"})
    miniature.add(view="MLO", pathology="BENIGN_WITHOUT_CALLBACK", **{"mass margins": "N/A"})
    miniature.add(view="CC", number=2, pathology="BENIGN", **{"mass margins": "OBSCURED"})
    miniature.add(view="MLO", number=2, pathology="MALIGNANT", **{"mass margins": "SPICULATED-OBSCURED"})
    labels = lesion_labels(read(miniature))
    assert labels["mass_P_00001_LEFT_1"]["pathology"] == "BENIGN"
    assert labels["mass_P_00001_LEFT_1"]["mass_margins"] == ["OBSCURED"]
    assert labels["mass_P_00001_LEFT_2"]["pathology"] == "MALIGNANT"
    assert labels["mass_P_00001_LEFT_2"]["mass_margins"] == ["OBSCURED", "SPICULATED"]
    assert labels["mass_P_00001_LEFT_2"]["calc_type"] is None


def test_patient_takes_worst_pathology_of_both_types(miniature: Any) -> None:
    miniature.add("calc_train", patient="P_00002", pathology="BENIGN_WITHOUT_CALLBACK")
    miniature.add("mass_train", patient="P_00001", pathology="")
    miniature.add("mass_test", patient="P_00002", pathology="BENIGN")
    assert list(patient_pathologies(read(miniature)).items()) == [("P_00001", None), ("P_00002", "BENIGN")]


def test_unknown_terms_come_after_the_published_ones(miniature: Any) -> None:
    miniature.add(**{"mass margins": "WOOLLY-ANGULAR-SPICULATED"})
    assert label_names(read(miniature))["mass_margins"] == [*LABEL_NAMES["mass_margins"], "ANGULAR", "WOOLLY"]


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("pathology", "UNSURE", "UNSURE"),
        ("left or right breast", "BOTH", "LEFT, RIGHT"),
        ("assessment", "7", "7"),
        ("breast_density", "dense", "dense"),
        ("patient_id", "../P_00001", "patient id"),
        ("abnormality id", "one", "abnormality id"),
        ("image file path", "a/../../b/000000.dcm", "leaves its folder"),
        ("image file path", "/etc/1.2/3.4/000000.dcm", "leaves its folder"),
        ("ROI mask file path", "folder/000000.dcm", "series UID"),
        ("cropped image file path", "a/1.2/..%2f/000000.dcm", "series UID"),
    ],
)
def test_wrong_cells_name_file_row_and_column(miniature: Any, column: str, cell: str, told: str) -> None:
    miniature.add()
    miniature.add(number=2, **{column: cell})
    with pytest.raises(InputError, match=r"mass_case_description_train_set\.csv row 2") as error:
        read(miniature)
    assert told in str(error.value)
    assert f"'{column.replace('_', ' ')}'".lower() in str(error.value).lower()


def test_missing_column_names_file_and_column(miniature: Any) -> None:
    miniature.add()
    for row in miniature.rows["mass_case_description_train_set.csv"]:
        del row["mass margins"]
    with pytest.raises(InputError, match=r"mass_case_description_train_set\.csv has no column 'mass margins'"):
        read(miniature)


def test_no_table_names_the_expected_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mass_case_description_train_set\.csv.*calc_case_description_test_set\.csv"):
        read_tables(tmp_path)


def test_binary_table_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "mass_case_description_test_set.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match=r"mass_case_description_test_set\.csv is not a readable CSV"):
        read_tables(tmp_path)


def test_absent_test_tables(miniature: Any) -> None:
    miniature.add("mass_test")
    miniature.write_tables()
    assert absent_test_tables(miniature.csv_dir) == ["calc_case_description_test_set.csv"]
