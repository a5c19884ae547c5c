"""Nothing that is tested on is trained on: patients, image files, and images that look the same."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miram.data.datalist import read_datalist, write_datalist
from miram.data.labelled import load_labelled
from miram.data.leakage import CACHE, check_leakage, perceptual_hash
from miram.data.tasks import Task
from miram.errors import InputError
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import write_png16

from ..image_files import picture

SHAPE = (96, 96)


def make_folder(folder: Path, same: bool, **keys: Any) -> Path:
    """Four crops of as many patients, the test one a darker copy of a training one if `same`."""
    pictures = [picture(16, SHAPE, seed) for seed in range(4)]
    if same:
        pictures[3] = (pictures[1] * 0.8).astype(np.uint16)
    items = [{"image": f"images/{n}.png", "patient": f"p{n}", "label": "ab"[n % 2], **keys} for n in range(4)]
    for item, pixels in zip(items, pictures, strict=True):
        write_png16(folder / item["image"], pixels)
    splits = {"training": items[:2], "validation": items[2:3], "test": items[3:]}
    write_datalist(folder, {"label_names": {"label": ["a", "b"]}, **splits})
    return folder


def test_images_that_look_the_same_in_two_splits_are_refused_by_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, same=True)
    with pytest.raises(InputError, match=r"1 pairs .* 'images/1.png' \(training\) and 'images/3.png' \(test\)"):
        check_leakage(folder)


def test_an_override_by_name_passes_is_warned_of_and_counted(tmp_path: Path, caplog: Any) -> None:
    folder = make_folder(tmp_path, same=True)
    assert check_leakage(folder, "images") == {"allowed": ["images"], "similar_images": 1}
    assert "1 pairs of images in two splits" in caplog.text
    with pytest.raises(InputError, match="only images"):
        check_leakage(folder, "patients")


@pytest.mark.parametrize("allow", [None, "none", "", []])
def test_different_images_pass(tmp_path: Path, allow: Any) -> None:
    assert check_leakage(make_folder(tmp_path, same=False), allow) == {"allowed": [], "similar_images": 0}


def test_a_patient_in_two_splits_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, same=False)
    content = json.loads((folder / "datalist.json").read_text())
    content["test"][0]["patient"] = "p0"
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="patient 'p0' is in both 'training' and 'test'"):
        check_leakage(folder, "images")


def test_fine_tuning_refuses_too(tmp_path: Path) -> None:
    folder, task = make_folder(tmp_path, same=True), Task("label", "binary", ("a", "b"))
    with pytest.raises(InputError, match="look the same"):
        load_labelled(folder, "training", task)
    assert len(load_labelled(folder, "training", task, allow_leakage="images")) == 2


def test_hashes_are_kept_beside_and_made_again_for_a_changed_file(tmp_path: Path, monkeypatch: Any) -> None:
    folder = make_folder(tmp_path, same=False)
    check_leakage(folder)
    kept = json.loads((folder / CACHE).read_text())
    assert kept["images/0.png"][2] == perceptual_hash(picture(16, SHAPE, 0))
    with monkeypatch.context() as patch:
        patch.setattr("miram.data.leakage.read_image", None)  # nothing is read again
        check_leakage(folder)
    write_png16(folder / "images/3.png", (picture(16, SHAPE, 1) * 0.8).astype(np.uint16))
    with pytest.raises(InputError, match="look the same"):
        check_leakage(folder)


@pytest.mark.parametrize("damage", ["{", "[]", '{"images/0.png": 3}', "[" * 10**5])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = make_folder(tmp_path, same=True)
    (folder / CACHE).parent.mkdir()
    (folder / CACHE).write_text(damage)
    with pytest.raises(InputError, match="look the same"):
        check_leakage(folder)


def test_the_hashes_of_the_data_list_are_used_and_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="look the same"):
        check_leakage(make_folder(tmp_path / "a", same=False, hash="0" * 64))
    with pytest.raises(InputError, match="not 64 hexadecimal digits"):
        check_leakage(make_folder(tmp_path / "b", same=False, hash="../../x"))


def test_a_copy_under_another_name_is_found_although_its_crops_differ(tmp_path: Path) -> None:
    """Windows of tissue depend on the file's name: only the hash of the source tells that two files are one image."""
    source = np.pad(picture(8, (300, 200), 1), 40)
    for name, pixels in (("a.png", source), ("b.png", np.pad(picture(8, (300, 200), 2), 40))):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    Image.fromarray(source).save(tmp_path / "in/copy.jpg", quality=60)
    settings = CropSettings(crop_size=64, crops_per_image=2)
    prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(settings, validation_fraction=0.67, workers=0))
    datalist = read_datalist(tmp_path / "out")
    held_out = {item["source"] for item in datalist["validation"]}
    assert held_out not in ({"a.png", "copy.jpg"}, {"b.png"}), "the draw parts the copies"
    with pytest.raises(InputError, match="1 pairs"):
        check_leakage(tmp_path / "out")


def test_ten_thousand_images_are_compared_in_seconds(tmp_path: Path, caplog: Any) -> None:
    rng = np.random.default_rng(0)
    items = [{"image": f"{n}.png", "patient": f"p{n}", "hash": rng.bytes(32).hex()} for n in range(10_000)]
    content = {"training": items[:8000], "validation": items[8000:9000], "test": items[9000:]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    caplog.set_level(logging.INFO)
    assert check_leakage(tmp_path)["similar_images"] == 0
