import pandas as pd
import pytest

from miram.generated.statistics import PATHOLOGIES, Statistics

COLUMNS = {"mass": ("mass shape", "mass margins"), "calc": ("calc type", "calc distribution")}


@pytest.fixture(scope="module", params=["mass", "calc"])
def real(request, pytestconfig):
    folder = pytestconfig.rootpath / "../shared/data/cbis_ddsm"
    if not folder.is_dir():
        pytest.skip("the real tables are not on this machine")
    names = [f"{request.param}_case_description_{split}_set.csv" for split in ("train", "test")]
    table = pd.concat([pd.read_csv(folder / name, keep_default_na=False) for name in names])
    statistics = Statistics().mass if request.param == "mass" else Statistics().calcification
    return table, COLUMNS[request.param], statistics


def by_pathology(pathology):
    return tuple(int((pathology == name).sum()) for name in PATHOLOGIES)


def test_pathologies_and_assessments_are_those_of_the_real_tables(real):
    table, _, statistics = real
    assert by_pathology(table["pathology"]) == statistics.pathology
    groups = table.groupby(table["assessment"].astype(str))["pathology"]
    assert {key: by_pathology(rows) for key, rows in groups} == statistics.assessment


def test_atoms_occur_as_often_as_in_the_real_tables(real):
    table, columns, statistics = real
    for column, counts in zip(columns, (statistics.shape, statistics.margin), strict=True):
        atoms = table[column].str.replace("CENTERED", "CENTER").str.split("-").map(set)
        found = {name: by_pathology(table["pathology"][atoms.map(lambda row, n=name: n in row)]) for name in counts}
        assert found == counts
        assert set().union(*atoms) == set(counts)


def test_every_atom_has_a_weight():
    for kind in (Statistics().mass, Statistics().calcification):
        assert all(sum(rows) > 0 for rows in (*kind.shape.values(), *kind.margin.values()))
