"""The four case description tables of CBIS-DDSM, read with all their quirks, as one list of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from miram.errors import InputError

TABLES = {
    "mass_case_description_train_set.csv": "training",
    "mass_case_description_test_set.csv": "test",
    "calc_case_description_train_set.csv": "training",
    "calc_case_description_test_set.csv": "test",
}

# The whole vocabulary of the published tables: a subset of the tables gives the same classes in the same order.
LABEL_NAMES: dict[str, list[Any]] = {
    "pathology": ["BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"],
    "abnormality": ["calcification", "mass"],
    "mass_margins": ["CIRCUMSCRIBED", "ILL_DEFINED", "MICROLOBULATED", "OBSCURED", "SPICULATED"],
    "mass_shape": [
        "ARCHITECTURAL_DISTORTION",
        "ASYMMETRIC_BREAST_TISSUE",
        "FOCAL_ASYMMETRIC_DENSITY",
        "IRREGULAR",
        "LOBULATED",
        "LYMPH_NODE",
        "OVAL",
        "ROUND",
    ],
    "calc_type": [
        "AMORPHOUS",
        "COARSE",
        "DYSTROPHIC",
        "EGGSHELL",
        "FINE_LINEAR_BRANCHING",
        "LARGE_RODLIKE",
        "LUCENT_CENTER",
        "MILK_OF_CALCIUM",
        "PLEOMORPHIC",
        "PUNCTATE",
        "ROUND_AND_REGULAR",
        "SKIN",
        "VASCULAR",
    ],
    "calc_distribution": ["CLUSTERED", "DIFFUSELY_SCATTERED", "LINEAR", "REGIONAL", "SEGMENTAL"],
    "density": [1, 2, 3, 4],
    "assessment": [0, 1, 2, 3, 4, 5],
    "subtlety": [1, 2, 3, 4, 5],
}
DESCRIPTORS = {"mass": ("mass_margins", "mass_shape"), "calcification": ("calc_type", "calc_distribution")}

_SEVERITY = ["BENIGN_WITHOUT_CALLBACK", "BENIGN", "MALIGNANT"]
_SYNONYMS = {"LUCENT_CENTERED": "LUCENT_CENTER"}
_COMMON_COLUMNS = [
    "patient_id",
    "breast_density",
    "left_or_right_breast",
    "image_view",
    "abnormality_id",
    "abnormality_type",
    "assessment",
    "pathology",
    "subtlety",
    "image_file_path",
    "cropped_image_file_path",
    "roi_mask_file_path",
]


@dataclass(frozen=True)
class LesionView:
    """One row of a table: one lesion as seen in one mammogram."""

    source: str  # the table's file name and the row's number in it, the first below the header being 1
    split: str  # "training" or "test", the official one
    patient: str
    laterality: str
    view: str
    abnormality: str
    number: int  # of the lesion in its breast and of its type (`abnormality id`)
    density: int | None  # 1 to 4; None if unknown, which is also what 0 in the table means
    assessment: int | None  # BI-RADS, 0 to 5
    subtlety: int | None  # 1 to 5; None as for density
    pathology: str | None
    # mass_margins, mass_shape, calc_type and calc_distribution as sorted sets of terms, None where unknown or not of
    # this type of lesion
    descriptors: dict[str, list[str] | None]
    image_series: str  # SeriesInstanceUID of the full mammogram
    # SeriesInstanceUIDs, one or two, that hold the cropped image and the mask, in whatever order
    lesion_series: tuple[str, ...]

    @property
    def lesion(self) -> str:
        """The lesion's id; without its type, 16 ids of the published tables would collide."""
        return f"{self.abnormality}_{self.patient}_{self.laterality}_{self.number}"

    @property
    def name(self) -> str:
        """The name of this view of the lesion, unique in the tables."""
        return f"{self.abnormality}_{self.patient}_{self.laterality}_{self.view}_{self.number}"


def read_tables(csv_dir: str | Path) -> list[LesionView]:
    """
    Read those of the four tables that are in a folder.

    Args:
        csv_dir: the folder with `mass_case_description_train_set.csv` and its three siblings, any subset of them.

    Returns:
        the rows, table by table in their order.

    Raises:
        InputError: if there is no table, a column is missing, or a cell holds what no table should: the message names
            the file, the row and the column.
    """
    folder = Path(csv_dir)
    present = [name for name in TABLES if (folder / name).is_file()]
    if not present:
        raise InputError(f"{folder} holds none of the tables {', '.join(TABLES)}; give their folder as --csv_dir")
    return [row for name in present for row in _read_table(folder / name, TABLES[name])]


def absent_test_tables(csv_dir: str | Path) -> list[str]:
    """The test tables that a folder lacks: their patients cannot be kept out of training."""
    return [name for name, split in TABLES.items() if split == "test" and not (Path(csv_dir) / name).is_file()]


def label_names(rows: Iterable[LesionView]) -> dict[str, list[Any]]:
    """The classes of every task: the published vocabulary, then terms of these rows that it lacks, sorted."""
    names = {task: list(classes) for task, classes in LABEL_NAMES.items()}
    for row in rows:
        for task, terms in row.descriptors.items():
            names[task] += [term for term in terms or [] if term not in names[task]]
    return {
        task: classes[: len(LABEL_NAMES[task])] + sorted(classes[len(LABEL_NAMES[task]) :])
        for task, classes in names.items()
    }


def lesion_labels(rows: Iterable[LesionView]) -> dict[str, dict[str, Any]]:
    """
    The labels of each lesion, by its id, where its views may disagree.

    Returns:
        for each lesion the worst `pathology` of its views, and the union of their terms for each descriptor.
    """
    views: dict[str, list[LesionView]] = {}
    for row in rows:
        views.setdefault(row.lesion, []).append(row)
    return {lesion: _agree(group) for lesion, group in views.items()}


def patient_pathologies(rows: Iterable[LesionView]) -> dict[str, str | None]:
    """The worst pathology of each patient, in the order of the rows; None where no row of the patient tells any."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.patient, []).extend([row.pathology] if row.pathology else [])
    return {patient: _worst(pathologies) for patient, pathologies in found.items()}


def patients_in_test(rows: Iterable[LesionView]) -> set[str]:
    """The patients in any test table: none of them may be trained on, also if another row is a training row."""
    return {row.patient for row in rows if row.split == "test"}


def _agree(views: list[LesionView]) -> dict[str, Any]:
    pathologies = [view.pathology for view in views if view.pathology is not None]
    labels: dict[str, Any] = {"pathology": _worst(pathologies)}
    for task in views[0].descriptors:
        labels[task] = sorted({term for view in views for term in view.descriptors[task] or []}) or None
    return labels


def _worst(pathologies: list[str]) -> str | None:
    return max(pathologies, key=_SEVERITY.index, default=None)


def _read_table(path: Path, split: str) -> list[LesionView]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeError) as error:
        raise InputError(f"{path} is not a readable CSV table ({error}); download it again") from error
    spelled = {re.sub(r"\s+", "_", column.strip().lower()): column for column in table.columns}
    abnormality = "mass" if path.name.startswith("mass") else "calcification"
    for column in (*_COMMON_COLUMNS, *DESCRIPTORS[abnormality]):
        if column not in spelled:
            raise InputError(f"{path} has no column '{column.replace('_', ' ')}'; download the table again")
    table = table.rename(columns={column: name for name, column in spelled.items()})
    records = table.to_dict("records")
    return [_Cells(path, number, record).lesion_view(split) for number, record in enumerate(records, start=1)]


@dataclass(frozen=True)
class _Cells:
    """The text cells of one row, and what each may hold."""

    path: Path
    number: int
    record: dict[Any, str]

    def lesion_view(self, split: str) -> LesionView:
        abnormality = self.choice("abnormality_type", LABEL_NAMES["abnormality"], str.lower)
        series = [self.series(f"{file}_file_path") for file in ("image", "cropped_image", "roi_mask")]
        descriptors = {task: self.terms(task) for tasks in DESCRIPTORS.values() for task in tasks}
        return LesionView(
            source=f"{self.path.name} row {self.number}",
            split=split,
            patient=self.matching("patient_id", r"[A-Za-z0-9_]+"),
            laterality=self.choice("left_or_right_breast", ["LEFT", "RIGHT"]),
            view=self.choice("image_view", ["CC", "MLO"]),
            abnormality=abnormality,
            number=int(self.matching("abnormality_id", r"\d{1,3}")),
            density=self.grade("breast_density", "density", unknown="0"),
            assessment=self.grade("assessment", "assessment"),
            subtlety=self.grade("subtlety", "subtlety", unknown="0"),
            pathology=self.choice("pathology", LABEL_NAMES["pathology"]) if self.text("pathology") else None,
            descriptors=descriptors,
            image_series=series[0],
            lesion_series=tuple(dict.fromkeys(series[1:])),
        )

    def text(self, column: str) -> str:
        """The cell without the spaces and newlines around it; the text N/A means that it is empty."""
        text = self.record.get(column, "").strip()
        return "" if text == "N/A" else text

    def matching(self, column: str, pattern: str) -> str:
        text = self.text(column)
        if not re.fullmatch(pattern, text):
            raise self.error(column, text, "it is not of the form of the published table")
        return text

    def choice(self, column: str, allowed: list[str], fold: Any = str.upper) -> str:
        text = fold(self.text(column))
        if text not in allowed:
            raise self.error(column, text, f"it is not one of {', '.join(allowed)}")
        return text

    def grade(self, column: str, task: str, unknown: str = "") -> int | None:
        text = self.text(column)
        if text in ("", unknown):
            return None
        if text not in map(str, LABEL_NAMES[task]):
            raise self.error(column, text, f"it is not one of {LABEL_NAMES[task]}")
        return int(text)

    def terms(self, column: str) -> list[str] | None:
        """A set of terms, in the table joined by - in any order and with repeats."""
        terms = {term.strip().upper() for term in self.text(column).split("-")} - {"", "N/A"}
        return sorted({_SYNONYMS.get(term, term) for term in terms}) or None

    def series(self, column: str) -> str:
        """The SeriesInstanceUID, a path's third part: folder names differ between the tables and the downloads."""
        parts = self.text(column).split("/")
        leaves = ".." in parts or (len(parts) > 1 and not parts[0])
        if leaves or len(parts) < 4 or not re.fullmatch(r"\d[\d.]{0,63}", parts[2]):
            reason = "it leaves its folder" if leaves else "its third part is not a series UID"
            raise self.error(column, "/".join(parts), f"{reason}; a path is PatientID/StudyUID/SeriesUID/000000.dcm")
        return parts[2]

    def error(self, column: str, text: str, reason: str) -> InputError:
        return InputError(
            f"{self.path} row {self.number}: column '{column.replace('_', ' ')}' holds {text!r}: {reason}"
        )
