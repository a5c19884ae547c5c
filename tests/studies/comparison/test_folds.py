"""Folds: every patient is left out once, and never seen by what predicts them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miram.data.datalist import SPLITS, describe, load_split, read_datalist
from miram.data.leakage import check_leakage
from miram.errors import InputError
from miram.loading.packed import find_packed, pack_folder
from miram.prepare.prepared import write_png16
from studies.comparison import folds
from studies.comparison.plan import identity, make_plan, run_overrides
from studies.comparison.run import run_plan
from studies.comparison.settings import check_data


@pytest.fixture
def in_folds(settings):
    return replace(settings, folds=3, seeds=(0,), label_fractions=(1.0,))


def patients(datalist, *splits):
    return {item["patient"] for split in splits for item in datalist[split]}


def test_every_patient_is_left_out_once_and_the_test_split_never_used(in_folds) -> None:
    own, lists = read_datalist(in_folds.dataset_dir), folds.fold_lists(in_folds)
    held_out = [item["image"] for datalist in lists.values() for item in datalist["test"]]
    assert sorted(held_out) == sorted(item["image"] for split in SPLITS[:2] for item in own[split])
    for datalist in lists.values():
        assert patients(datalist, *SPLITS) == patients(own, "training", "validation")
        assert len(patients(datalist, "test")) == 12  # of 36
        assert len(patients(datalist, "validation")) == 8  # a third of the others, as in the folder
        assert sum(item["pathology"] == "MALIGNANT" for item in datalist["test"]) == 6
        assert sum(item["pathology"] == "MALIGNANT" for item in datalist["validation"]) == 4
        assert datalist["name"] == "small"


def test_patients_whose_images_look_the_same_stay_together(in_folds) -> None:
    pixels = np.random.default_rng(5).integers(0, 60000, (40, 40)).astype(np.uint16)
    for patient in (0, 1, 30):
        write_png16(in_folds.dataset_dir / f"images/{patient}.png", pixels)
    folds.write_folds(in_folds)
    alike = {"p0", "p1", "p30"}
    for name, datalist in folds.fold_lists(in_folds).items():
        assert [alike <= patients(datalist, split) for split in SPLITS].count(True) == 1
        check_leakage(folds.dataset_dir_of(name, in_folds))


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_a_fold_is_a_prepared_folder(in_folds, monkeypatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    folds.write_folds(in_folds)
    image = Path(load_split(folds.dataset_dir_of("fold_2_of_3", in_folds), "test")[0]["image"])
    source = in_folds.dataset_dir / "images" / image.name
    assert image.samefile(source) == links
    write_png16(source, np.full((40, 40), 7, np.uint16))
    folds.write_folds(in_folds)
    assert image.read_bytes() == source.read_bytes()  # prepared again


def test_all_of_a_fold_is_trained_without_the_patients_it_predicts(in_folds) -> None:
    plan = make_plan(in_folds)
    assert len(plan) == 3 * (2 + 3 * 2)
    assert plan[0].name == "pretrain/miram/fold_1_of_3/seed_0"
    assert plan[-1].name == "evaluate/scratch/fold_3_of_3/pathology/fraction_1/seed_0"
    for step in plan:
        folder = in_folds.output_dir.resolve() / "folds" / step.fold
        assert run_overrides(step, in_folds)["dataset_dir"] == str(folder)
        assert step.after is None or step.after.fold == step.fold
        assert identity(step, in_folds)["fold"] == f"{step.fold} by pathology"


def test_folds_are_written_before_the_first_step(in_folds, stub) -> None:
    run_plan(make_plan(in_folds), in_folds, runner=stub(fail_at=""))
    assert sorted(path.name for path in (in_folds.output_dir / "folds").iterdir()) == folds.fold_names(in_folds)


def test_the_folds_share_one_packed_copy(in_folds) -> None:
    folds.write_folds(in_folds)
    steps = [step for step in make_plan(in_folds) if step.stage == "pretrain"]
    paths = [run_overrides(step, in_folds) for step in steps]
    (shared,) = {path["packed_dir"] for path in paths}
    pack_folder(paths[0]["dataset_dir"], packed_dir=shared)
    assert all(find_packed(path["dataset_dir"], shared) for path in paths)
    own = replace(in_folds, overrides={"pretrain": {"packed_dir": "fast_disk"}})
    assert run_overrides(make_plan(own)[0], own)["packed_dir"] == "fast_disk"


def test_a_comparison_killed_within_a_fold_goes_on_there(in_folds, stub) -> None:
    plan = make_plan(in_folds)
    stopped = [step.name for step in plan if step.fold == "fold_2_of_3"][3]
    number = [step.name for step in plan].index(stopped)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, in_folds, runner=stub(fail_at=stopped))
    checkpoint = in_folds.output_dir / stopped / "checkpoint.pt"
    checkpoint.touch()
    written = folds.dataset_dir_of("fold_1_of_3", in_folds) / "datalist.json"
    before = written.stat().st_mtime_ns
    second = stub()
    run_plan(make_plan(in_folds), in_folds, runner=second)
    assert second.names == [step.name for step in plan[number:]]
    assert checkpoint.is_file()  # the step goes on from what it had saved
    assert written.stat().st_mtime_ns == before


def test_folds_of_other_data_are_not_mixed(in_folds) -> None:
    folds.write_folds(in_folds)
    with pytest.raises(InputError, match=r"fold_1_of_3/datalist.json is a fold of other data"):
        folds.write_folds(replace(in_folds, tasks=("mass_margins",)))


def test_a_backbone_that_saw_the_patients_left_out_is_refused(in_folds, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "own.pt"
    path.touch()
    given = replace(in_folds, backbones={"own": path})
    seen = {"dataset": describe(in_folds.dataset_dir)}
    monkeypatch.setattr("studies.comparison.settings._provenance", lambda path: seen)
    with pytest.raises(InputError, match=r"own: .*own\.pt was pretrained on .* has seen the patients"):
        check_data(given)
    check_data(replace(given, folds=0))
    seen["dataset"]["sha256"] = "other"
    check_data(given)


@pytest.mark.parametrize(("count", "message"), [(37, "37 folds need as many patients"), (1, "give 2 or more")])
def test_too_many_folds_are_refused(in_folds, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        folds.fold_lists(replace(in_folds, folds=count))


def test_a_share_that_leaves_a_class_without_a_patient_is_refused_before_anything_runs(settings) -> None:
    folds.check_label_fractions(replace(settings, label_fractions=(0.1, 1.0)))
    with pytest.raises(InputError, match=r"fold_1_of_3, seed 0: label_fraction 0.02 keeps 1 of 16 patients"):
        folds.check_label_fractions(replace(settings, folds=3, label_fractions=(1.0, 0.02)))
