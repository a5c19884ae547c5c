"""The data list's items and the report's rows, from the tables' rows and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from miram.prepare.cbis_ddsm.lesions import ImageCrops, image_path, mask_path
from miram.prepare.cbis_ddsm.plan import Refusal
from miram.prepare.cbis_ddsm.tables import LesionView
from miram.prepare.prepared import ReportRow

Item = dict[str, Any]


@dataclass
class Outcome:
    """
    What became of one row of a table.

    Args:
        report: its row of `report.csv`.
        kind: for a row without its crop, the reason that many rows share; else "".
        lesion: the item of its lesion's crop, where there is one.
        tissue: the items of its mammogram's tissue crops, which rows of the same mammogram share.
    """

    report: ReportRow
    kind: str = ""
    lesion: Item | None = None
    tissue: list[Item] = field(default_factory=list)


def refused(row: LesionView, refusal: Refusal) -> Outcome:
    """The outcome of a row that was refused before any pixel was read."""
    return Outcome(ReportRow(row.source, refusal.status, refusal.reason, patient=row.patient), refusal.kind)


def outcome(row: LesionView, crops: ImageCrops, wants_lesion: bool, tissue: tuple[str, ...], labels: Item) -> Outcome:
    """
    The outcome of a row whose mammogram was worked on.

    Args:
        row: of a table.
        crops: what was cut from its mammogram.
        wants_lesion: whether its lesion's crop was asked for.
        tissue: the names of the mammogram's tissue crops.
        labels: the lesion's, on which its views agree (:func:`miram.prepare.cbis_ddsm.tables.lesion_labels`).
    """
    seen = {"hash": crops.hash}
    lesion = _lesion_item(row, crops.zooms[row.name], labels) | seen if row.name in crops.zooms else None
    items = [_tissue_item(row, name, crops.zooms[name]) | seen for name in tissue if name in crops.zooms]
    failed = lesion is None if wants_lesion else not items
    remarks = [
        text for name in (row.name, *tissue) for text in (crops.problems.get(name), crops.notes.get(name)) if text
    ]
    paths = [item[key] for item in ([lesion] if lesion else []) + items for key in ("image", "mask") if item[key]]
    report = ReportRow(
        row.source,
        "error" if failed else "crop",
        "; ".join(dict.fromkeys(remarks)),
        tuple(paths),
        row.patient,
        crops.scaling,
    )
    return Outcome(report, "unreadable or unfit files" if failed else "", lesion, items)


def _lesion_item(row: LesionView, zoom: float, labels: Mapping[str, Any]) -> Item:
    """The item of a lesion's crop: `labels` are the lesion's, `view_labels` this view's own, which may differ."""
    return {
        "image": image_path(row.name),
        "mask": mask_path(row.name),
        "crop": "lesion",
        **_about(row),
        "lesion": row.lesion,
        "abnormality": row.abnormality,
        **labels,
        "assessment": row.assessment,
        "subtlety": row.subtlety,
        "view_labels": {"pathology": row.pathology, **row.descriptors},
        "zoom": zoom,
    }


def _tissue_item(row: LesionView, name: str, zoom: float) -> Item:
    """The item of a tissue crop: it shows none of the lesions whose masks were read, so it has no label of one."""
    return {"image": image_path(name), "mask": None, "crop": "tissue", **_about(row), "lesion": None, "zoom": zoom}


def _about(row: LesionView) -> Item:
    return {"patient": row.patient, "laterality": row.laterality, "view": row.view, "density": row.density}
