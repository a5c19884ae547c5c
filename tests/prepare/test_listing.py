"""What the data list and the report say of images and their lesions."""

from __future__ import annotations

from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.labels import ImageRow, Labels, LesionRow
from miram.prepare.listing import NO_LESION, LabelColumn, label_columns, labelled_units, list_items, report_lesions
from miram.prepare.records import Crop, Record
from miram.prepare.regions import Box

BOX = Box(("1", "2", "3", "4"))


def lesion(name: str, box: Box | None = BOX, **more: Any) -> LesionRow:
    return LesionRow(name=name, box=box, **more)


def record(source: str, crops: tuple[Crop, ...], **more: Any) -> Record:
    facts = {"laterality": None, "view": None, "spacing": (0.1, 0.1), "hash": "0"}
    return Record(source, 1, 1, crops=crops, facts=facts, **more)


def lesion_crop(name: str, region: int) -> Crop:
    return Crop(f"images/{name}.png", "lesion", f"masks/{name}.png", 0.5, region)


def test_the_crop_of_a_box_is_found_by_its_number_among_the_boxes() -> None:
    rows = [lesion("row 1"), lesion("row 2", box=None), lesion("row 3"), lesion("row 4")]
    done = record("a", (lesion_crop("one", 0),), region_remarks=("", "not a number", "cut off"), faulty=(1,))
    first, boxless, faulty, uncut = report_lesions(rows, done, "p")
    assert (first.status, first.outputs, first.patient) == ("crop", ("images/one.png", "masks/one.png"), "p")
    assert (boxless.status, boxless.reason) == ("skipped", NO_LESION)
    assert (faulty.status, faulty.reason) == ("error", "not a number")
    assert (uncut.status, uncut.outputs) == ("skipped", ())


def test_boxes_of_an_image_that_was_not_cut_have_its_reason() -> None:
    (unread,) = report_lesions([lesion("row 1")], InputError("a.dcm is empty"), "")
    assert (unread.status, unread.reason) == ("error", "a.dcm is empty")
    (skipped,) = report_lesions([lesion("row 1")], record("a", (), reason="a volume"), "p")
    assert (skipped.status, skipped.reason) == ("skipped", "a volume")


def test_lesions_without_a_name_are_counted_in_their_patient_and_those_of_two_breasts_told_apart() -> None:
    rows = {
        "left": [lesion("1", lesion="1", laterality="LEFT"), lesion("2")],
        "right": [lesion("3", lesion="1", laterality="RIGHT")],
        "other": [lesion("4")],
    }
    records = [
        record("left", (lesion_crop("a", 0), lesion_crop("b", 1), Crop("images/c.png", "tissue"))),
        record("right", (lesion_crop("d", 0),)),
        record("other", (lesion_crop("e", 0),)),
    ]
    items = list_items(records, {"left": "p", "right": "p", "other": "q"}, Labels(lesions=rows))
    named = {item["image"]: item["lesion"] for item in items}
    assert list(named.values()) == ["p/1/LEFT", "p/box_1", None, "p/1/RIGHT", "q/box_1"]


def test_a_tables_sides_replace_the_headers_and_a_reduced_crop_has_coarser_pixels() -> None:
    rows = {"a": [lesion("1", laterality="RIGHT", labels={"finding": "mass"})]}
    (item,) = list_items([record("a", (lesion_crop("a", 0),))], {"a": "p"}, Labels(columns=["finding"], lesions=rows))
    assert (item["laterality"], item["view"], item["finding"]) == ("RIGHT", None, "mass")
    assert item["spacing"] == (0.2, 0.2)


def test_a_whole_image_lists_its_lesions_and_none_if_the_table_does_not_name_it() -> None:
    whole = Crop("images/a.png", "whole")
    rows = {
        "a": [lesion("1", lesion="x", labels={"finding": "mass"}), lesion("2", box=None, labels={"finding": None})],
        "b": [lesion("3", box=None, labels={"finding": None})],
    }
    records = [record(source, (whole,)) for source in "abc"]
    items = list_items(records, dict.fromkeys("abc", "p"), Labels(columns=["finding"], lesions=rows))
    assert [item["lesions"] for item in items] == [[{"lesion": "x", "finding": "mass"}], [], None]
    assert [unit["finding"] for unit in labelled_units(items, boxed=True)] == ["mass"]


def test_a_lesion_of_an_image_belongs_to_its_patient() -> None:
    crops = (Crop("images/a.png", "tissue"),)
    labels = Labels({"a": ImageRow("p", "7", labels={"grade": "B"})}, columns=["grade"])
    (item,) = list_items([record("a", crops)], {"a": "p"}, labels)
    assert (item["lesion"], item["grade"]) == ("p/7", "B")
    assert labelled_units([item], boxed=False) == [item]


def test_classes_are_sorted_as_numbers_or_as_text_and_counted_in_images() -> None:
    items: list[dict[str, Any]] = [
        {"source": "a", "grade": "10", "side": "R"},
        {"source": "b", "grade": "9", "side": None},
        {"source": "b", "grade": "9", "side": None},
        {"source": "c", "grade": "9", "side": "nan"},
    ]
    columns = label_columns(items, Labels(columns=["grade", "side"]))
    assert list(columns["grade"].classes.items()) == [("9", 2), ("10", 1)]
    assert columns["side"] == LabelColumn({"R": 1, "nan": 1}, labelled=2, unknown=1)


@pytest.mark.parametrize(
    ("counts", "identifier", "task"),
    [
        ({"a": 6, "b": 6}, False, True),
        ({"a": 1, "b": 1}, False, True),  # two images of two classes are a small example
        ({str(number): 1 for number in range(12)}, True, False),
        ({"a": 12}, False, False),
        ({"1": 1, "2": 1, "3": 10}, False, True),
    ],
)
def test_a_column_of_own_values_is_not_a_task(counts: dict[str, int], identifier: bool, task: bool) -> None:
    column = LabelColumn(counts, sum(counts.values()), 0)
    assert (column.is_identifier, column.is_task) == (identifier, task)
