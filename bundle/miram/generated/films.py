"""The films and table rows of each finding, their identifiers, and the quirks of CBIS-DDSM."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from miram.generated.patients import Case, Finding, Kind, Split, View, at_least_one

Candidate = TypeVar("Candidate", int, str)


@dataclass(frozen=True)
class Series:
    """One DICOM series."""

    folder: str  # the first part of the path in the table
    patient_id: str  # the PatientID in the header, which is also the folder on disk
    study: str  # StudyInstanceUID
    series: str  # SeriesInstanceUID

    @property
    def path(self) -> PurePosixPath:
        """The series' folder on disk, relative to the DICOM folder."""
        return PurePosixPath(self.patient_id, self.study, self.series)


@dataclass(frozen=True)
class Row:
    """One row of a table, and the files that it refers to."""

    patient: str
    density: int
    subtlety: int
    side: str
    view: str
    finding: Finding
    shape: tuple[str, ...]
    margin: tuple[str, ...]
    image: Series
    crop: Series
    mask: Series
    crop_name: str  # in the table
    mask_name: str
    crop_file: str  # on disk
    mask_file: str
    mask_loss: float = 0.0  # share of the film's rows and columns that the mask lacks


@dataclass(frozen=True)
class Film:
    """One film."""

    number: int  # of the patient
    density: int
    size: tuple[int, int]  # (H, W)
    view: View
    rows: tuple[Row, ...]  # one for each of its findings


@dataclass(frozen=True)
class Quirks:
    """
    How often the tables and files are irregular. A quirk whose rate is not 0 occurs at least once if any row allows it.

    The rates are those of CBIS-DDSM if they can be counted from its tables and the IDC's index.
    """

    density_zero: float = 0.001  # rows with density 0
    subtlety_zero: float = 0.001  # rows with subtlety 0
    repeated_atom: float = 0.005  # rows that name an atom twice
    other_order: float = 0.3  # rows with several atoms that list them in the opposite order to the first view
    centered: float = 0.18  # rows with LUCENT_CENTER that are written as LUCENT_CENTERED
    separate_series: float = 0.03  # rows whose crop and mask are separate series
    swapped: float = 0.4  # rows whose crop and mask files have each other's names (a guess: "often")
    small_mask: float = 0.005  # rows whose mask lacks the film's last rows and columns
    mask_loss: float = 0.01  # the share of rows and columns that such masks lack (a guess)
    other_image_id: float = 0.87  # test calcification rows whose film has a different PatientID from the table's
    other_lesion_id: float = 0.46  # test calcification rows whose crop and mask have a different PatientID


def plan_films(cases: Sequence[Case], seed: int, quirks: Quirks) -> list[Film]:
    """Plan every film of a data set."""
    key = f"{seed}/{len(cases)}"
    films = [
        Film(case.number, case.density, case.size, view, tuple(_row(key, case, view, each) for each in view.findings))
        for case in cases
        for view in case.views
    ]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    rows = _irregular([row for film in films for row in film.rows], quirks, rng)
    begins = np.cumsum([0] + [len(film.rows) for film in films])
    return [
        replace(film, rows=tuple(rows[begin : begin + len(film.rows)]))
        for film, begin in zip(films, begins[:-1], strict=True)
    ]


def generated_uid(name: str) -> str:
    """A DICOM identifier under the root 2.25 (UUIDs, PS3.5 annex B.2); the same name always gets the same one."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'miram/synthetic/{name}').int}"


def table_name(kind: Kind, split: Split) -> str:
    """The table's file name, as on TCIA."""
    return f"{kind}_case_description_{split}_set.csv"


def _row(key: str, case: Case, view: View, finding: Finding) -> Row:
    group = f"{finding.kind.capitalize()}-{'Training' if finding.split == 'train' else 'Test'}"
    film = f"{group}_{case.patient}_{view.side}_{view.view}"
    lesion = f"{film}_{finding.number}"
    image, crop = (
        Series(name, name, generated_uid(f"{key}/study/{name}"), generated_uid(f"{key}/series/{name}"))
        for name in (film, lesion)
    )
    crop_file, mask_file = ("000000.dcm", "000001.dcm") if finding.kind == "mass" else ("000001.dcm", "000000.dcm")
    return Row(
        patient=case.patient,
        density=case.density,
        subtlety=finding.subtlety,
        side=view.side,
        view=view.view,
        finding=finding,
        shape=finding.shape,
        margin=finding.margin,
        image=image,
        crop=crop,
        mask=crop,
        crop_name=crop_file,
        mask_name=mask_file,
        crop_file=crop_file,
        mask_file=mask_file,
    )


def _irregular(rows: list[Row], quirks: Quirks, rng: np.random.Generator) -> list[Row]:
    """The rows with quirks, which are drawn for the whole set at once, so that a small set also has each of them."""
    films = dict.fromkeys(row.image.series for row in rows if _is_calc_test(row))  # rows of one film share its header
    renamed = _chosen(list(films), quirks.other_image_id, rng)
    rows = [_rename_image(row) if row.image.series in renamed else row for row in rows]
    changes: list[tuple[Callable[[Row], bool], float, Callable[[Row], Row]]] = [
        (_any_row, quirks.density_zero, lambda row: replace(row, density=0)),
        (_any_row, quirks.subtlety_zero, lambda row: replace(row, subtlety=0)),
        (
            lambda row: row.shape[0] != "N/A",
            quirks.repeated_atom,
            lambda row: replace(row, shape=row.shape[:1] + row.shape),
        ),
        (_has_several_atoms, quirks.other_order, _reverse_atoms),
        (lambda row: "LUCENT_CENTER" in row.shape, quirks.centered, _write_centered),
        (lambda row: row.finding.kind == "mass", quirks.separate_series, _separate),
        (lambda row: row.crop == row.mask, quirks.swapped, _swap),
        (_any_row, quirks.small_mask, lambda row: replace(row, mask_loss=quirks.mask_loss)),
        (_is_calc_test, quirks.other_lesion_id, _rename_lesion),
    ]
    for allowed, share, change in changes:
        fitting = [index for index, row in enumerate(rows) if allowed(row)]
        chosen = _chosen(fitting, share, rng)
        rows = [change(row) if index in chosen else row for index, row in enumerate(rows)]
    return rows


def _chosen(candidates: list[Candidate], share: float, rng: np.random.Generator) -> set[Candidate]:
    count = at_least_one(share, len(candidates))
    return {candidates[pick] for pick in rng.permutation(len(candidates))[:count]}


def _any_row(row: Row) -> bool:
    return True


def _has_several_atoms(row: Row) -> bool:
    return len(row.shape) > 1 or len(row.margin) > 1


def _reverse_atoms(row: Row) -> Row:
    return replace(row, shape=row.shape[::-1], margin=row.margin[::-1])


def _is_calc_test(row: Row) -> bool:
    return row.finding.kind == "calc" and row.finding.split == "test"


def _other_id(series: Series) -> Series:
    """`Calc-Test_P_00038_LEFT_CC` in the table is `P_00038_LEFT_CC.dcm` in the header."""
    return replace(series, patient_id=series.folder.split("_", 1)[1] + ".dcm")


def _rename_image(row: Row) -> Row:
    return replace(row, image=_other_id(row.image))


def _rename_lesion(row: Row) -> Row:
    return replace(row, crop=_other_id(row.crop), mask=_other_id(row.mask))


def _write_centered(row: Row) -> Row:
    return replace(row, shape=tuple("LUCENT_CENTERED" if atom == "LUCENT_CENTER" else atom for atom in row.shape))


def _separate(row: Row) -> Row:
    mask = replace(row.mask, study=generated_uid(row.mask.study), series=generated_uid(row.mask.series))
    first = "000000.dcm"
    return replace(row, mask=mask, crop_name=first, mask_name=first, crop_file=first, mask_file=first)


def _swap(row: Row) -> Row:
    return replace(row, crop_file=row.mask_file, mask_file=row.crop_file)
