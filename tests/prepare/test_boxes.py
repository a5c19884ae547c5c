"""A table of boxes: read, and cut into lesions and tissue."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miram.data.datalist import SPLITS, Item, read_datalist
from miram.data.tasks import applicable_items, find_task
from miram.errors import InputError
from miram.prepare.boxes import read_boxes
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import read_png16
from miram.prepare.summary import Summary

BOTH = CropSettings(crops="both", crop_size=32, crops_per_image=6)
HEADING = "image,x,y,width,height,lesion,patient,laterality,view,finding\n"
ROWS = (
    "a.png,20,100,10,6,1,p0,L,cc,mass\n"
    "a.png,60.4,30.5,40,20,2,p0,left,CC,mass;calcification\n"
    "b.png,30,40,12,12,1,p1,RIGHT,MLO,calcification\n"
    "c.png,,,,,,p2,,,\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four views of 120 x 160 pixels, bright but for a border of air: one of them is not in the table."""
    (tmp_path / "in").mkdir()
    for number, name in enumerate("abcd"):
        pixels = np.random.default_rng(number).integers(100, 255, (160, 120), dtype=np.uint8)
        pixels[:, 110:] = 0
        Image.fromarray(pixels).save(tmp_path / f"in/{name}.png")
    return tmp_path / "in"


def prepare(folder: Path, rows: str = ROWS, settings: CropSettings = BOTH, **options: Any) -> Summary:
    table = folder.parent / "boxes.csv"
    table.write_text(HEADING + rows)
    return prepare_folder(
        folder, folder.parent / "out", FolderSettings(settings, workers=0, boxes_csv=table, **options)
    )


def all_items(output: Path) -> list[Item]:
    datalist = read_datalist(output)
    return sorted((item for split in SPLITS for item in datalist[split]), key=lambda item: item["image"])


def lesions(output: Path) -> list[Item]:
    return [item for item in all_items(output) if item["crop"] == "lesion"]


def report(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "report.csv", newline="") as stream:
        return {line["source"]: line for line in csv.DictReader(stream)}


def test_each_box_is_a_crop_with_its_mask_labels_and_place(folder: Path) -> None:
    output = prepare(folder).output_dir
    first, second, third = lesions(output)
    assert (first["lesion"], first["patient"], first["laterality"], first["view"]) == ("p0/1", "p0", "LEFT", "CC")
    assert [item["finding"] for item in (first, second, third)] == [
        ["mass"],
        ["calcification", "mass"],
        ["calcification"],
    ]
    assert [item["zoom"] for item in (first, second, third)] == [1.0, 32 / 60, 1.0]  # 1.5 x 40 pixels do not fit
    source = np.asarray(Image.open(folder / "a.png")).astype(np.uint16) * 257
    np.testing.assert_array_equal(read_png16(output / first["image"]), source[87:119, 9:41])
    expected = np.zeros((32, 32), np.uint16)
    expected[13:19, 11:21] = 65535
    np.testing.assert_array_equal(read_png16(output / first["mask"]), expected)
    labelled = applicable_items(all_items(output), find_task(read_datalist(output), "finding"))
    assert len(labelled) == 3


def test_tissue_avoids_boxes_and_has_no_label(folder: Path) -> None:
    output = prepare(folder).output_dir
    tissue = [item for item in all_items(output) if item["crop"] == "tissue"]
    assert {item["source"] for item in tissue} == {"a.png", "b.png", "c.png", "d.png"}
    assert all(item["lesion"] is None and item["mask"] is None and "finding" not in item for item in tissue)
    pixels = np.asarray(Image.open(folder / "a.png")).astype(np.uint16) * 257
    windows: Any = np.lib.stride_tricks.sliding_window_view(pixels, (32, 32))
    boxes = np.zeros(pixels.shape, bool)
    boxes[100:106, 20:30] = boxes[30:51, 60:101] = True
    for item in tissue:
        if item["source"] == "a.png":
            crop = read_png16(output / item["image"])
            ((row, column),) = np.argwhere((windows[..., :3, :3] == crop[:3, :3]).all((2, 3)))
            assert not boxes[row : row + 32, column : column + 32].any()


def test_every_row_is_in_the_report_with_what_to_do(folder: Path) -> None:
    rows = ROWS + (
        "a.png,200,10,10,10,3,p0,,,mass\nb.png,30,40,0,12,2,p1,,,\nb.png,nan,40,5,12,3,p1,,,\nb.png,30,,5,12,3,p1,,,\n"
        "d.png,100,100,30,10,1,p3,,,mass\nx.png,1,1,5,5,1,p4,,,mass\na.png,20,100,10,6,1,p0,L,cc,mass\n"
    )
    summary = prepare(folder, rows)
    told = report(summary.output_dir)
    statuses = [told[f"boxes.csv, line {number}"]["status"] for number in range(2, 13)]
    assert statuses == ["crop"] * 3 + ["skipped"] + ["error"] * 4 + ["crop", "error", "skipped"]
    reasons = [told[f"boxes.csv, line {number}"]["reason"] for number in range(5, 13)]
    said = [
        "one without a lesion",
        "outside the image of 120 x 160",
        "width of the box is 0; give",
        "x of the box is 'nan'",
    ]
    said += ["y of the box is ''; give a number", "cut off there", "no such image: x.png", "repeats line 2"]
    assert all(words in reason for words, reason in zip(said, reasons, strict=True))
    # Where a lesion lies that has no usable box is not known: tissue may show it.
    assert "no tissue crops" in told["a.png"]["reason"]
    assert not any(
        item["crop"] == "tissue" and item["source"] in ("a.png", "b.png") for item in all_items(summary.output_dir)
    )
    assert (summary.boxes, summary.lesions, summary.kinds["lesion"], summary.rows_without_image) == (10, 4, 4, 1)
    assert summary.box_reasons == {
        "repeats line 2": 1,
        "no box: the image counts as one without a lesion": 1,
        "error": 4,
    }


def test_a_changed_table_cuts_only_the_images_whose_boxes_changed(folder: Path) -> None:
    output = prepare(folder).output_dir
    times = {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    lines = ROWS.splitlines(keepends=True)
    changed = "d.png,,,,,,p3,,,\n" + lines[0].replace("mass", "cyst") + lines[2].replace("30,40", "31,40") + lines[3]
    assert prepare(folder, changed).reused == 2  # c and d; the second box of a is gone
    again = {path.name for path in (output / "images").iterdir() if times.get(path.name) != path.stat().st_mtime_ns}
    assert {name[0] for name in again} == {"a", "b"}
    assert [item["finding"] for item in lesions(output)] == ["cyst", "calcification"]
    assert {path.name for path in (output / "masks").iterdir()} == {Path(item["mask"]).name for item in lesions(output)}
    assert {f"images/{path.name}" for path in (output / "images").iterdir()} == {i["image"] for i in all_items(output)}
    relabelled = changed.replace("cyst", "mass")
    assert prepare(folder, relabelled).reused == 4


def test_a_mended_table_cuts_only_the_images_of_the_mended_rows(folder: Path) -> None:
    bad = ROWS.replace("30,40,12", "900,40,12") + "e.png,20,20,8,8,1,p3,LEFT,CC,mass\n"  # b: outside; d: misspelt
    output = prepare(folder, bad).output_dir
    assert {name for name, row in report(output).items() if row["status"] == "error"} == {
        "boxes.csv, line 4",
        "boxes.csv, line 6",
    }
    times = {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    assert prepare(folder, ROWS + "d.png,20,20,8,8,1,p3,LEFT,CC,mass\n").reused == 2  # a and c
    now = {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    assert {name[0] for name in now if now[name] != times.get(name)} == {"b", "d"}
    assert {item["source"] for item in lesions(output)} == {"a.png", "b.png", "d.png"}
    assert "error" not in {row["status"] for row in report(output).values()}


def test_a_whole_image_says_what_its_lesions_are(folder: Path) -> None:
    rows = ROWS.replace("mass;calcification", "calcification")
    summary = prepare(folder, rows, CropSettings(crops="whole", crop_size=80))
    found = {item["source"]: item["lesions"] for item in all_items(summary.output_dir)}
    assert found == {
        "a.png": [{"lesion": "1", "finding": "mass"}, {"lesion": "2", "finding": "calcification"}],
        "b.png": [{"lesion": "1", "finding": "calcification"}],
        "c.png": [],  # a row without a box: no lesion
        "d.png": None,  # not in the table
    }
    assert summary.labels["finding"].classes == {"calcification": 2, "mass": 1}
    assert (summary.boxes, summary.lesions) == (4, 3)


def test_other_kinds_of_crops(folder: Path) -> None:
    settings = CropSettings(crops="whole", crop_size=80)
    output = prepare(folder, settings=settings, overwrite=True).output_dir
    whole = next(item for item in all_items(output) if item["source"] == "b.png")
    assert report(output)["boxes.csv, line 4"]["outputs"] == f"{whole['image']};{whole['mask']}"
    rows, columns = np.nonzero(read_png16(output / whole["mask"]))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 25, 10 + 15, 10 + 20)
    assert (whole["crop"], whole["zoom"], "finding" in whole) == ("whole", 0.5, False)
    output = prepare(folder, settings=CropSettings(crops="lesion", crop_size=32), overwrite=True).output_dir
    assert len(all_items(output)) == len(lesions(output)) == 3
    assert report(output)["d.png"]["reason"] == "no box in the table"
    output = prepare(folder, settings=CropSettings(crop_size=32), overwrite=True).output_dir
    assert {item["crop"] for item in all_items(output)} == {"tissue"}
    assert report(output)["boxes.csv, line 2"]["reason"] == "no lesion crops wanted (--crops)"
    over = prepare(folder, "d.png,-5,100,30,10,1,p3,,,\n", CropSettings(crop_size=32), overwrite=True)
    assert report(output)["boxes.csv, line 2"]["status"] == "skipped"
    assert over.kinds == {"tissue": 32 * 4}


def test_a_box_in_the_air_is_to_be_looked_at_and_a_crop_of_air_is_an_error(folder: Path) -> None:
    summary = prepare(folder, ROWS + "d.png,111,20,5,5,1,p3,,,mass\n")
    row = report(summary.output_dir)["boxes.csv, line 6"]
    assert row["status"] == "crop"
    assert "one value there" in row["reason"]
    assert any(remark.startswith("1 boxes should be checked") for remark in summary.remarks)
    pixels = np.zeros((160, 120), np.uint8)
    pixels[:, :60] = np.arange(160, dtype=np.uint8)[:, None]
    Image.fromarray(pixels).save(folder / "d.png")
    output = prepare(folder, ROWS + "d.png,111,20,5,5,1,p3,,,mass\n").output_dir
    row = report(output)["boxes.csv, line 6"]
    assert (row["status"], row["outputs"]) == ("error", "")


def test_splits_are_those_of_the_table(folder: Path) -> None:
    table = folder.parent / "split.csv"
    table.write_text("image,x,y,width,height,split,patient\na.png,20,100,10,6,test,p0\nb.png,3,40,12,12,train,p1\n")
    output = prepare_folder(folder, folder.parent / "out", FolderSettings(BOTH, workers=0, boxes_csv=table)).output_dir
    assert {item["patient"] for item in read_datalist(output)["test"]} == {"p0"}


def test_boxes_without_a_name_are_lesions_of_their_own(folder: Path) -> None:
    summary = prepare(folder, "a.png,20,100,10,6,,p0,,,\nb.png,30,40,12,12,,p0,,,\n")
    assert [item["lesion"] for item in lesions(summary.output_dir)] == ["p0/box_1", "p0/box_2"]
    assert any(remark.startswith("2 boxes have no name in a column lesion") for remark in summary.remarks)


def test_lesions_counted_breast_by_breast_are_told_apart(folder: Path) -> None:
    rows = "a.png,20,100,10,6,1,p0,L,CC,\nb.png,30,40,12,12,1,p0,R,CC,\nc.png,30,40,12,12,1,p0,R,MLO,\n"
    names = [item["lesion"] for item in lesions(prepare(folder, rows).output_dir)]
    assert names == ["p0/1/LEFT", "p0/1/RIGHT", "p0/1/RIGHT"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,xmin,ymin,xmax,ymax\na.png,1,1,5,5\n", "no column 'x'.* width is xmax - xmin"),
        ("image,X,y,width,height\na.png,1,1,5,5\n", "rename it to x"),
        ("image,x,y,width,height,side\na.png,1,1,5,5,L\n", "rename it to laterality"),
        ("image,x,y,width,height,laterality\na.png,1,1,5,5,B\n", "line 2: laterality is 'B'; give LEFT or RIGHT"),
        ("image,x,y,width,height\na.png,0.1,0.1,0.2,0.5\n", "shares of the image"),
        (
            "image,x,y,width,height,patient\na.png,1,1,5,5,p\na.png,1,1,6,5,q\n",
            "rows of a.png have patient 'p' and 'q'",
        ),
        ("image,x,y,width,height,crop\na.png,1,1,5,5,p\n", "'crop' is written by the prepare step"),
        ("image,x,y,width,height\nz.png,1,1,5,5\n", "none of its 1 rows names an image"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / "boxes.csv", ["a.png"])


def test_lesions_need_a_table_and_one_table_is_enough(folder: Path) -> None:
    with pytest.raises(InputError, match="give --boxes_csv"):
        prepare_folder(folder, folder.parent / "out", FolderSettings(BOTH, workers=0))
    with pytest.raises(InputError, match="both given"):
        prepare(folder, labels_csv="labels.csv")


def test_coco_says_the_same_as_a_csv(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": 120, "height": 160, "patient": "p0"}]
    annotation = {"image_id": 7, "category_id": 1, "bbox": [20, 100.5, 10, 6], "area": 60, "segmentation": []}
    content = {
        "images": images,
        "annotations": [annotation | {"id": 3, "lesion": 1, "birads": 4}, {"id": 4, "image_id": 7, "attributes": {}}],
        "categories": [{"id": 1, "name": "mass"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "boxes.csv").write_text(
        "image,x,y,width,height,patient,lesion,category,birads\na.png,20,100.5,10,6,p0,1,mass,4\na.png,nan,nan,nan,nan,p0,,,\n"
    )
    coco, table = (read_boxes(tmp_path / f"boxes.{suffix}", ["a.png"]) for suffix in ("json", "csv"))
    assert set(coco.columns) == set(table.columns) == {"category", "birads"}
    assert coco.images == table.images
    assert [(replace(row, name="", box=None), row.box and row.box.cells) for row in coco.lesions["a.png"]] == [
        (replace(row, name="", box=None), row.box and row.box.cells) for row in table.lesions["a.png"]
    ]
    assert [row.name for row in coco.lesions["a.png"]] == ["boxes.json, annotation 3", "boxes.json, annotation 4"]
    assert "attributes of the COCO file is neither text nor a number: left out" in coco.remarks


@pytest.mark.parametrize(("size", "known"), [((120, 160), True), ((0, 0), False), ((None, 160), False)])
def test_a_coco_file_tells_the_size_of_the_images_that_its_boxes_fit(
    tmp_path: Path, size: tuple[int | None, int], known: bool
) -> None:
    image = {"id": 7, "file_name": "a.png", "width": size[0], "height": size[1]}
    annotation = {"id": 1, "image_id": 7, "bbox": [20, 100, 10, 6]}
    (tmp_path / "boxes.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    (row,) = read_boxes(tmp_path / "boxes.json", ["a.png"]).lesions["a.png"]
    assert row.box is not None
    assert row.box.mask((160, 120))[0].sum() == 60
    if known:
        with pytest.raises(InputError, match="says that the image has 120 x 160 pixels, but it has 240 x 320"):
            row.box.mask((320, 240))
    else:
        assert row.box.mask((320, 240))[0].sum() == 60


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [], "annotations": [{"image_id": 1}]}'])
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InputError, match=r"boxes\.json"):
        read_boxes(tmp_path / "boxes.json", ["a.png"])
