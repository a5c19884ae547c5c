"""What the data list and the report say of each image's crops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from miram.data.datalist import Item
from miram.errors import InputError
from miram.files import as_text
from miram.prepare.image_crops import crop_spacing
from miram.prepare.labels import Labels, LesionRow
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Crop, Record

NO_LESION = "no box: the image counts as one without a lesion"


def image_row(source: str, result: Record | InputError, patient: str) -> ReportRow:
    """The report's row of an image."""
    if isinstance(result, InputError):
        return ReportRow(source, "error", str(result))
    status = "crop" if result.outputs else "skipped"
    return ReportRow(source, status, result.reason, result.outputs, patient, result.scaling, result.header)


def report_lesions(rows: Sequence[LesionRow], result: Record | InputError, patient: str) -> list[ReportRow]:
    """The report's rows of the boxes of an image."""
    return [_lesion_row(row, region, result, patient) for row, region in _numbered(rows)]


def _numbered(rows: Sequence[LesionRow]) -> list[tuple[LesionRow, int | None]]:
    """Each row with the number of its region: rows without a box have none."""
    numbers = iter(range(len(rows)))
    return [(row, next(numbers) if row.box else None) for row in rows]


def _lesion_row(row: LesionRow, region: int | None, result: Record | InputError, patient: str) -> ReportRow:
    if isinstance(result, InputError):
        return ReportRow(row.name, "error", str(result))
    if region is None:
        return ReportRow(row.name, "skipped", NO_LESION, patient=patient)
    if not result.region_remarks:  # the image was skipped
        return ReportRow(row.name, "skipped", result.reason, patient=patient)
    remark = result.region_remarks[region]
    if region in result.faulty:
        return ReportRow(row.name, "error", remark, patient=patient)
    shown = [crop for crop in result.crops if crop.region == region or crop.kind == "whole"]
    if shown:
        return ReportRow(row.name, "crop", remark, tuple(name for crop in shown for name in crop.files), patient)
    return ReportRow(row.name, "skipped", "no lesion crops wanted (--crops)", patient=patient)


def list_items(records: Sequence[Record], patients: Mapping[str, str], labels: Labels) -> list[Item]:
    """
    An item per crop: what the header says, then what the table says, which may correct it.

    The labels of a table of boxes are a lesion's: crops of tissue do not have them, and a whole image has a list of its
    lesions under `lesions`, empty if it shows none, None if the table does not name it.
    """
    if not labels.lesions:
        return [item for record in records for item in _image_items(record, patients[record.source], labels)]
    unnamed = Counter[str]()
    items = [item for record in records for item in _boxed_items(record, patients[record.source], labels, unnamed)]
    return _by_breast(items)


def _image_items(record: Record, patient: str, labels: Labels) -> list[Item]:
    row = labels.of(record.source)
    lesion = {"lesion": f"{patient}/{row.lesion}"} if row.lesion else {}  # a table may count them patient by patient
    said = lesion | {key: row.labels.get(key) for key in labels.columns}
    return [_item(crop, record, patient) | said for crop in record.crops]


def _boxed_items(record: Record, patient: str, labels: Labels, unnamed: Counter[str]) -> list[Item]:
    """Lesions without a name get their number among those of the patient; `unnamed` counts these."""
    rows = labels.lesions.get(record.source, [])
    boxed = [row.row for row in rows if row.box]
    said = {
        key: next((value for row in rows if (value := getattr(row, key))), record.facts[key])
        for key in ("laterality", "view")
    }
    items = []
    for crop in record.crops:
        item = _item(crop, record, patient) | said | {"lesion": None}
        if crop.region is not None:
            row = boxed[crop.region]
            unnamed[patient] += row.lesion is None
            item["lesion"] = f"{patient}/{row.lesion or f'box_{unnamed[patient]}'}"
            item |= {key: row.labels.get(key) for key in labels.columns}
        if crop.kind == "whole":
            item["lesions"] = _lesions(rows, labels.columns) if record.source in labels.lesions else None
        items.append(item)
    return items


def _lesions(rows: Sequence[LesionRow], columns: Sequence[str]) -> list[Item]:
    """The labels of the lesions of a whole image; a row without a box counts if it has a label."""
    named = [{"lesion": row.row.lesion, **{key: row.row.labels.get(key) for key in columns}} for row in rows]
    return [one for one, row in zip(named, rows, strict=True) if row.box or any(one[key] for key in columns)]


def labelled_units(items: Sequence[Item], boxed: bool) -> list[Item]:
    """What a table's labels belong to: images, or with a table of boxes lesions, each with an "image" of its own."""
    if not boxed:
        return list(items)
    lesions = [
        {**lesion, "image": f"{item['image']}#{number}"}
        for item in items
        for number, lesion in enumerate(item.get("lesions") or [])
    ]
    return [item for item in items if item["crop"] == "lesion"] + lesions


def _by_breast(items: list[Item]) -> list[Item]:
    """Tell lesions of one patient and name in two breasts apart: a table may count them breast by breast."""
    sides: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item["lesion"] and item["laterality"]:
            sides[item["lesion"]].add(item["laterality"])
    return [
        item | {"lesion": f"{item['lesion']}/{item['laterality']}"} if len(sides.get(item["lesion"], ())) > 1 else item
        for item in items
    ]


def _item(crop: Crop, record: Record, patient: str) -> Item:
    facts = record.facts | {"spacing": crop_spacing(record.facts["spacing"], crop.zoom)}
    return {
        "image": crop.image,
        "mask": crop.mask,
        "crop": crop.kind,
        "patient": patient,
        "source": as_text(record.source),
        "zoom": crop.zoom,
        **facts,
    }
