"""Whose images they are, and which patients are for training, validation and the test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from miram.data.datalist import Item, split_by_patient
from miram.errors import InputError
from miram.files import as_text
from miram.prepare.labels import Labels
from miram.prepare.records import Record
from miram.readers.formats import without_suffix


def assign_patients(
    records: Sequence[Record], labels: Labels, pattern: str | None
) -> tuple[dict[str, str], Counter[str]]:
    """
    Name each image's patient: by the CSV, else by `pattern`, else by the DICOM header, else one patient a file.

    A DICOM image without PatientID belongs to the patient of its study, or else the study is taken for a patient. DICOM
    patients are counted in the order of the files (`patient_0001`, ...): nothing of their ids is left.

    Args:
        records: of the images, in the order of the data list.
        labels: what the table says, for its column `patient`.
        pattern: a regular expression with one group, searched for in the relative path.

    Returns:
        source -> patient, and how many images each of the origins "csv", "pattern", "dicom", "study" and "file" named.

    Raises:
        InputError: if the pattern is not one, or an image has no match.
    """
    expression = _compile(pattern)
    numbers: dict[str, int] = {}
    of_study = {record.study: record.patient for record in records if record.study and record.patient}
    patients, origins = {}, Counter[str]()
    for record in records:
        from_csv = labels.of(record.source).patient
        if from_csv:
            patient, origin = from_csv, "csv"
        elif expression is not None:
            patient, origin = _match(expression, as_text(record.source)), "pattern"
        elif key := record.patient or of_study.get(record.study or "") or record.study:
            number = numbers.setdefault(key, len(numbers) + 1)
            patient, origin = f"patient_{number:04d}", "dicom" if record.patient else "study"
        else:
            patient, origin = without_suffix(as_text(record.source)).as_posix(), "file"
        patients[record.source] = patient
        origins[origin] += 1
    return patients, origins


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient_pattern {pattern!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise InputError(f"--patient_pattern {pattern!r} has {expression.groups} groups; put ( ) around the patient")
    return expression


def _match(expression: re.Pattern[str], source: str) -> str:
    match = expression.search(source)
    if match is None or not match[1]:
        raise InputError(f"--patient_pattern {expression.pattern!r} finds no patient in {source}; widen the pattern")
    return match[1]


def named_splits(patients: Mapping[str, str], labels: Labels) -> dict[str, str]:
    """
    The splits that a table's column `split` names, by patient.

    Raises:
        InputError: if images of one patient are in two splits.
    """
    named: dict[str, tuple[str, str]] = {}
    for source, patient in patients.items():
        split = labels.of(source).split
        if split is None:
            continue
        other, first = named.setdefault(patient, (split, source))
        if other != split:
            raise InputError(
                f"the column split has patient {patient!r} in {other} ({first}) and in {split} ({source}); give all "
                "images of a patient one split"
            )
    return {patient: split for patient, (split, _) in named.items()}


def draw_splits(
    items: Sequence[Item],
    named: Mapping[str, str],
    test_fraction: float,
    validation_fraction: float,
    seed: int = 0,
    stratify_key: str | None = None,
) -> dict[str, list[Item]]:
    """
    Put every patient into one split.

    A patient for whom the table names a split gets it; the others are for training. If the table names no patient for
    the test (or for validation), a share of the patients without a split is drawn, first for the test. If there are not
    two patients without a split, those named for training are drawn from, too.

    Args:
        items: each with "patient".
        named: patient -> split, from the table.
        test_fraction: share of these patients for the test split.
        validation_fraction: share of those that are left for validation.
        stratify_key: a key of the items; each of its values gets about the same share in each split.

    Returns:
        "training", "validation" and "test" items, each in the given order.
    """
    held = {split: [item for item in items if named.get(item["patient"]) == split] for split in ("validation", "test")}
    unnamed = [item for item in items if item["patient"] not in named]
    if len({item["patient"] for item in unnamed}) > 1:
        rest = unnamed
    else:  # too few to draw from
        rest = [item for item in items if named.get(item["patient"], "training") == "training"]
    for split, share in (("test", test_fraction), ("validation", validation_fraction)):
        if not held[split]:
            rest, held[split] = split_by_patient(rest, share, seed, stratify_key)
    taken = {item["patient"] for items_held in held.values() for item in items_held}
    return {"training": [item for item in items if item["patient"] not in taken], **held}
