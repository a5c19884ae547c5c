"""Whose images they are: by a table, a pattern, DICOM headers, or the file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

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
