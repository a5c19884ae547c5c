"""Tables, data lists and notes of any content: used, or refused by name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from miram.data.datalist import SPLITS, describe, load_split, read_datalist
from miram.data.leakage import check_leakage
from miram.data.tasks import class_counts, find_task, task_names
from miram.errors import InputError
from miram.inference.calibrated import load_calibration
from miram.prepare.boxes import read_boxes
from miram.prepare.cbis_ddsm.tables import TABLES, label_names, lesion_labels, read_tables
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.labels import read_labels
from miram.prepare.patients import assign_patients
from miram.prepare.records import Record

from ..image_files import picture
from .mutations import mutate
from .refusal import problem

LABELS = (
    b"image,patient,diagnosis,side\na.png,p0,benign,L\nsub/b.png,p1,malignant,R\nsub/c.png,p1,,L\nmissing.png,p9,x,R\n"
)
BOXES = (
    b"image,x,y,width,height,lesion,view,side of it\na.png,1,2,30,4.5,1,CC,L\na.png,9,9,9,9,2,CC,\nsub/b.png,,,,,,,R\n"
)
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png", "patient": "p1"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 4.5], "lesion": 1},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [9, 9, 1e308, 1e308], "score": None},
    ],
    "categories": [{"id": 1, "name": "mass"}],
}
SOURCES = ["a.png", "sub/b.png", "sub/c.png"]
COLUMNS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
ROW = (
    "P_0000{0},3,LEFT,CC,1,mass,OVAL,OBSCURED-SPICULATED,4,BENIGN,4,"
    "A/1/1.2.{0}/0.dcm,A/1/1.3.{0}/0.dcm,A/1/1.3.{0}/1.dcm"
)
TABLE = "\n".join([COLUMNS, *(ROW.format(number) for number in range(1, 4))]).encode()
DATALIST: dict[str, Any] = {
    "name": "x",
    "label_names": {"label": ["a", "b"], "margins": ["a", "b", "c"], "pathology": ["BENIGN", "MALIGNANT"]},
    "training": [
        {"image": "0.png", "mask": None, "patient": "p0", "label": "a", "margins": ["a", "c"], "hash": "0" * 64},
        {"image": "1.png", "mask": "0.png", "patient": "p1", "label": "b", "pathology": None, "hash": "f" * 64},
    ],
    "validation": [{"image": "2.png", "patient": "p2", "label": "b", "margins": None, "hash": "0f" * 32}],
    "test": [],
}


def use_labels(path: Path) -> None:
    labels = read_labels(path, SOURCES)
    assign_patients([Record(source, 0, 0) for source in SOURCES], labels, None)
    assert all(isinstance(column, str) for column in labels.columns)


def use_boxes(path: Path) -> None:
    labels = read_boxes(path, SOURCES)
    assign_patients([Record(source, 0, 0) for source in SOURCES], labels, None)
    for box in (box for boxes in labels.regions().values() for box in boxes):
        with suppress(InputError):  # an error row of the report
            assert box.mask((40, 30))[0].any()


def use_table(path: Path) -> None:
    rows = read_tables(path.parent)
    assert label_names(rows)
    assert len(lesion_labels(rows)) <= len(rows)


def use_datalist(path: Path) -> None:
    """All that training and evaluation do with it before an image is read."""
    datalist = read_datalist(path.parent)
    describe(path.parent)
    check_leakage(path.parent)
    items = [item for split in SPLITS for item in load_split(path.parent, split, required=False)]
    assert all(Path(item["image"]).resolve().is_relative_to(path.parent.resolve()) for item in items)
    for name in task_names(datalist):
        with suppress(InputError):  # names the task or the image instead
            class_counts(items, find_task(datalist, name))


def use_calibration(path: Path) -> None:
    calibration = load_calibration(path, "digest")
    if calibration is not None:
        calibration.thresholds_at("image", ["a"])


CALIBRATION = {"scale": [1.5], "bias": [0.5], "thresholds": {"image": {"a": 0.3}}, "model_sha256": "digest"}
FILES: dict[str, tuple[str, bytes, Callable[[Path], None]]] = {
    "labels": ("labels.csv", LABELS, use_labels),
    "boxes": ("boxes.csv", BOXES, use_boxes),
    "coco": ("boxes.json", json.dumps(COCO).encode(), use_boxes),
    "table": (next(iter(TABLES)), TABLE, use_table),
    "datalist": ("datalist.json", json.dumps(DATALIST).encode(), use_datalist),
    "calibration": ("calibration.json", json.dumps(CALIBRATION).encode(), use_calibration),
}
TEXT = st.text(max_size=8) | st.sampled_from(
    ["../x.png", "/etc/passwd", "..\\x", "a\0b", "\ud800", "x" * 300, "=1+1", "p0", "0.png", "nan", "\N{BOM}"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables")
    for number in range(3):
        Image.fromarray(picture(8, (40, 40), number)).save(path / f"{number}.png")
    return path


def options(request: pytest.FixtureRequest, share: float) -> settings:
    count = int(request.config.getoption("--fuzz_cases", default=2000) * share)
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", FILES)
def test_the_undamaged_file_is_used(kind: str, folder: Path) -> None:
    name, content, use = FILES[kind]
    (folder / name).write_bytes(content)
    assert problem(use, folder / name) == str(folder / name)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_bytes(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    name, content, use = FILES[kind]
    for case in range(int(request.config.getoption("--fuzz_cases", default=2000) * 0.04)):
        (folder / name).write_bytes(mutate(content, name, np.random.default_rng(case)))
        assert str(folder / name) in problem(use, folder / name), f"case {case}"


@pytest.mark.parametrize("kind", ["datalist", "calibration"])
def test_other_values(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    name, content, use = FILES[kind]
    original = json.loads(content)

    @options(request, 0.05)
    @given(st.data(), JSON)
    def check(data: st.DataObject, value: Any) -> None:
        changed = json.loads(content)
        part, key = changed, data.draw(st.sampled_from(sorted(original)))
        while isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans()):
            part = part[key]
            key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        part[key] = value
        (folder / name).write_text(json.dumps(changed), encoding="utf-8", errors="surrogatepass")
        assert str(folder / name) in problem(use, folder / name)

    check()


@pytest.mark.parametrize("kind", ["labels", "table"])
def test_other_cells(kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
    name, content, use = FILES[kind]
    rows = [line.split(",") for line in content.decode().splitlines()]

    @options(request, 0.05)
    @given(st.integers(0, len(rows) - 1), st.integers(0, len(rows[0]) - 1), TEXT | st.just('"'), st.booleans())
    def check(row: int, column: int, value: str, extra: bool) -> None:
        changed = [list(cells) for cells in rows]
        changed[row][column : column + (not extra)] = [value]
        text = "\n".join(",".join(cells) for cells in changed)
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        assert str(folder / name) in problem(use, folder / name)

    check()


@pytest.mark.parametrize("content", ["[" * 10**5, '{"training": ' * 10**4, "1" * 10**5, "\0" * 100, "null", "[]"])
def test_json_that_is_no_data_list(folder: Path, content: str) -> None:
    (folder / "datalist.json").write_text(content)
    assert str(folder / "datalist.json") in problem(use_datalist, folder / "datalist.json")


def test_damaged_notes_of_a_prepared_folder_are_made_again_or_refused(request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "in").mkdir()
        for number in range(2):
            Image.fromarray(picture(8, (40, 40), number)).save(root / f"in/{number}.png")
        settings = FolderSettings(CropSettings(crop_size=32, crops_per_image=1), workers=0)
        prepare_folder(root / "in", root / "out", settings)
        notes = [path for path in sorted((root / "out/.prepare").rglob("*.json")) if path.is_file()]
        whole = {path: path.read_bytes() for path in notes}
        for case in range(request.config.getoption("--fuzz_cases", default=2000) // 50):
            path = notes[case % len(notes)]
            path.write_bytes(mutate(whole[path], path.name, np.random.default_rng(case)))
            message = problem(lambda out: prepare_folder(root / "in", out, settings), root / "out")
            assert str(root / "out") in message, f"case {case}"
            for path, content in whole.items():
                path.write_bytes(content)
