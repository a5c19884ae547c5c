"""What the data list and the report say of each image's crops, and the classes of their labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from miram.data.datalist import Item
from miram.errors import InputError
from miram.files import as_text
from miram.prepare.image_jobs import crop_spacing
from miram.prepare.label_table import as_number
from miram.prepare.labels import Label, Labels, LesionRow
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
    regions = count()  # rows without a box are not counted
    return [_lesion_row(row, next(regions) if row.box else None, result, patient) for row in rows]


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
    boxed = [row for row in rows if row.box]
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
    named = [{"lesion": row.lesion, **{key: row.labels.get(key) for key in columns}} for row in rows]
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
        **({"study": record.study} if record.study else {}),  # as hashed as the patient in the records
    }


@dataclass(frozen=True)
class LabelColumn:
    """What a column of labels holds, counted in images."""

    classes: dict[str, int]  # images by class as text, numbers in their order, else alphabetically
    labelled: int  # images of known label
    unknown: int  # images without one
    several: bool = False  # whether an image may have several classes

    @property
    def is_identifier(self) -> bool:
        """Whether most images have a value of their own: an id or a remark, not classes that can be learned."""
        own = sum(images == 1 for images in self.classes.values())
        return len(self.classes) > 2 and 2 * own > self.labelled

    @property
    def is_task(self) -> bool:
        """Whether there is something to tell apart."""
        return len(self.classes) > 1 and not self.is_identifier


def label_columns(items: Sequence[Item], labels: Labels) -> dict[str, LabelColumn]:
    """Count each column's classes: in images, of which an image counts once, or in lesions of a table of boxes."""
    unit = "image" if labels.lesions else "source"
    units = {item[unit]: item for item in labelled_units(items, bool(labels.lesions))}.values()
    return {column: _column([item.get(column) for item in units]) for column in labels.columns}


def _column(labels: Sequence[Label]) -> LabelColumn:
    known = [label for label in labels if label is not None]
    counts = Counter(name for label in known for name in (label if isinstance(label, list) else [label]))
    several = any(isinstance(label, list) for label in known)
    return LabelColumn({name: counts[name] for name in _ordered(counts)}, len(known), len(labels) - len(known), several)


def _ordered(values: Iterable[str]) -> list[str]:
    numbers = {value: as_number(value) for value in values}
    if None in numbers.values():
        return sorted(numbers)
    return sorted(numbers, key=lambda value: (numbers[value], value))
