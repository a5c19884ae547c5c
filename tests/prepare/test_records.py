"""What is remembered between runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from miram import files
from miram.errors import InputError
from miram.prepare.image_crops import CropSettings
from miram.prepare.records import Crop, Record, Records, hash_patient


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Records, Path, Record]:
    """A prepared folder with one record, and its source."""
    source = tmp_path / "in/a.png"
    source.parent.mkdir()
    source.write_text("abc")
    records = Records(tmp_path / "out")
    records.begin({"size": 8, "seed": 0})
    (tmp_path / "out/images").mkdir()
    (tmp_path / "out/images/a.png").touch()
    status = source.stat()
    record = Record(
        "a.png",
        status.st_size,
        status.st_mtime_ns,
        (Crop("images/a.png", "tissue"),),
        facts={"view": "CC"},
        patient="f00",
    )
    records.save(record)
    return records, source, record


def test_a_record_comes_back(prepared: tuple[Records, Path, Record]) -> None:
    records, source, record = prepared
    assert records.load("a.png", source) == record
    assert records.load("b.png", source) is None


def test_a_changed_source_and_a_missing_crop_are_done_again(prepared: tuple[Records, Path, Record]) -> None:
    records, source, record = prepared
    os.utime(source, ns=(0, record.modified + 1))
    assert records.load("a.png", source) is None
    os.utime(source, ns=(0, record.modified))
    assert records.load("a.png", source) == record
    (records.output_dir / "images/a.png").unlink()
    assert records.load("a.png", source) is None


def test_changed_regions_are_done_again(prepared: tuple[Records, Path, Record]) -> None:
    records, source, record = prepared
    boxed = replace(record, regions=(["1", "2", "3", "4"],), region_remarks=("",))
    records.save(boxed)
    assert records.load("a.png", source, [["1", "2", "3", "4"]]) == boxed
    assert records.load("a.png", source, [["1", "2", "3", "5"]]) is None
    assert records.load("a.png", source) is None


def test_what_is_discarded_leaves_no_file(prepared: tuple[Records, Path, Record]) -> None:
    records, source, _ = prepared
    records.discard("a.png")
    records.discard("b.png")
    assert records.load("a.png", source) is None
    assert not list((records.output_dir / "images").iterdir())


def test_other_settings_are_refused_unless_all_is_forgotten(prepared: tuple[Records, Path, Record]) -> None:
    records, source, record = prepared
    records.begin({"size": 8, "seed": 0})
    (records.output_dir / "notes.txt").touch()
    with pytest.raises(InputError, match="size=8 then, 9 now"):
        records.begin({"size": 9, "seed": 0})
    assert records.load("a.png", source) == record
    records.begin({"size": 9, "seed": 0}, overwrite=True)
    assert records.load("a.png", source) is None
    assert not (records.output_dir / "images/a.png").exists()
    assert (records.output_dir / "notes.txt").exists()


@pytest.mark.parametrize(
    ("crops", "change", "told"),
    [
        ("lesion", {"context": 2.0}, "context=1.5 then, 2.0 now"),
        ("tissue", {"seed": 1}, "seed=0 then, 1 now"),
        ("both", {"crops_per_image": 9}, "crops_per_image=4 then, 9 now"),
        ("whole", {"crop_size": 9}, "crop_size=None then, 9 now"),
        ("tissue", {"crops": "lesion"}, "crops=tissue then, lesion now"),
        ("tissue", {"context": 2.0}, ""),
        ("lesion", {"seed": 1, "crops_per_image": 9, "min_tissue": 0.9}, ""),
        ("whole", {"seed": 1, "context": 2.0}, ""),
    ],
)
def test_only_settings_that_decide_pixels_are_kept(
    tmp_path: Path, crops: str, change: dict[str, Any], told: str
) -> None:
    records = Records(tmp_path)
    records.begin(CropSettings(crops=crops).decisive)
    changed = CropSettings(**{"crops": crops, **change}).decisive
    if told:
        with pytest.raises(InputError, match=rf"\({told}\)"):
            records.check(changed)
    else:
        records.check(changed)


def test_images_of_another_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.png").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds images of another origin, .*; give another --output_dir$"):
            Records(tmp_path).begin({}, overwrite)
    assert (tmp_path / "images/mine.png").exists()


def test_a_folder_of_another_key_and_one_that_must_be_empty_are_refused(tmp_path: Path) -> None:
    Records(tmp_path / "one").begin({})
    (tmp_path / "one/images").mkdir()
    with pytest.raises(InputError, match=r"holds images of another origin.*\(its \.prepare holds no mine\.key\)"):
        Records(tmp_path / "one", "mine.key").check({}, overwrite=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/thesis.txt").touch()
    Records(tmp_path / "two").check({})
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["thesis.txt"], "a check writes nothing"
    with pytest.raises(InputError, match=r"holds thesis\.txt of another origin"):
        Records(tmp_path / "two", "mine.key", shared=False).check({})


def test_the_key_stays_and_differs_between_folders(tmp_path: Path) -> None:
    first, second = Records(tmp_path / "1"), Records(tmp_path / "2")
    first.begin({})
    key = first.key()
    assert len(key) == 32
    assert first.key() == key != second.key()
    assert hash_patient("Ann", key) == hash_patient("Ann", key) != hash_patient("Ann", second.key())
    assert hash_patient("Ann", key) != hash_patient("Bob", key)


def test_two_processes_do_not_prepare_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.0)
    (tmp_path / "out/.prepare").mkdir(parents=True)
    with FileLock(tmp_path / "out/.prepare/.lock"), pytest.raises(InputError, match=r"another run is writing to .*out"):
        Records(tmp_path / "out").begin({})
    assert not (tmp_path / "out/.prepare/settings.json").exists()
