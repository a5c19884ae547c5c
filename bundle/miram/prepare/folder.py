"""Any folder of images to a prepared folder: crops, data list and report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miram.data.datalist import FILE_NAME, check_fraction, write_datalist
from miram.errors import InputError
from miram.files import as_text
from miram.prepare.boxes import read_boxes
from miram.prepare.image_crops import CropSettings
from miram.prepare.image_jobs import numbered_job, prepare_images
from miram.prepare.labels import SEPARATOR, Labels, read_labels
from miram.prepare.listing import image_row, label_columns, list_items, report_lesions
from miram.prepare.patients import assign_patients, draw_splits, named_splits
from miram.prepare.prepared import ReportRow, is_generated, write_report
from miram.prepare.records import Record, Records
from miram.prepare.summary import Summary, summarise
from miram.readers.formats import format_names, is_image_file
from miram.readers.search import search

NOT_LISTED = "not in the table (--only_listed)"


@dataclass(frozen=True)
class FolderSettings:
    """What is prepared of a folder, and how: the options of `scripts/prepare_folder.py`."""

    crops: CropSettings = field(default_factory=CropSettings)
    labels_csv: str | os.PathLike[str] | None = None  # see :func:`miram.prepare.labels.read_labels`
    # a table of lesions, in place of `labels_csv`; see :func:`miram.prepare.boxes.read_boxes`
    boxes_csv: str | os.PathLike[str] | None = None
    # leave out the images that the table does not name; without this they are images without a label or a box
    only_listed: bool = False
    class_separator: str = SEPARATOR  # between the classes of a cell
    patient_pattern: str | None = None  # see :func:`miram.prepare.patients.assign_patients`
    # share of the training patients held out for validation, unless the table names some
    validation_fraction: float = 0.2
    test_fraction: float = 0.0  # share of the patients held out for the test; see `patients.draw_splits`
    workers: int | None = None  # see :func:`miram.jobs.run_jobs`
    time_limit: float = 300.0  # seconds for a file, with `workers` other than 0; a slower one is an error in the report
    # if an image cannot be read, stop after the report is written, without a data list; crops are kept
    strict: bool = False
    overwrite: bool = False  # discard what was prepared before

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        check_fraction("test_fraction", self.test_fraction)
        if self.labels_csv is not None and self.boxes_csv is not None:
            raise InputError("--labels_csv and --boxes_csv are both given; put the labels into the table of boxes")
        if self.crops.lesions and self.boxes_csv is None:
            raise InputError(f"--crops {self.crops.crops} cuts lesions; give --boxes_csv, which says where they are")
        if self.only_listed and self.labels_csv is None and self.boxes_csv is None:
            raise InputError("--only_listed leaves out what a table does not name; give --labels_csv or --boxes_csv")

    def read_table(self, sources: Sequence[str]) -> Labels:
        """What the table says of these images; nothing without one."""
        labels = Labels()
        if self.labels_csv is not None:
            labels = read_labels(self.labels_csv, sources, self.class_separator)
        elif self.boxes_csv is not None:
            labels = read_boxes(self.boxes_csv, sources, self.class_separator)
        if self.test_fraction and any(row.split == "test" for row in labels.images.values()):
            raise InputError(
                "the table's column split says who is for the test; leave out --test_fraction, or the column"
            )
        return labels


def prepare_folder(
    input_dir: str | os.PathLike[str], output_dir: str | os.PathLike[str], settings: FolderSettings
) -> Summary:
    """
    Prepare every image under a folder; a second call does only what is missing.

    Args:
        input_dir: searched with its subfolders.
        output_dir: gets `datalist.json`, `report.csv`, `images/` and the records for continuing.

    Raises:
        InputError: if there is nothing to read, images and volumes are mixed, or a table is wrong.
    """
    root, output = Path(input_dir), Path(output_dir)
    sources, image_rows = find_images(root, output)
    labels = settings.read_table(sources)
    if settings.only_listed:
        image_rows += [ReportRow(name, "skipped", NOT_LISTED) for name in sources if name not in labels.images]
        sources = [name for name in sources if name in labels.images]
    results, reused = _cut(sources, labels, root, output, settings)
    records = [result for result in results.values() if isinstance(result, Record) and result.outputs]
    patients, origins = assign_patients(records, labels, settings.patient_pattern)
    named = named_splits(patients, labels)
    image_rows += [image_row(source, result, patients.get(source, "")) for source, result in results.items()]
    box_rows = [
        row
        for source, lesions in labels.lesions.items()
        for row in report_lesions(lesions, results[source], patients.get(source, ""))
    ]
    _report(output, image_rows, [*labels.missing, *labels.repeated, *box_rows], records, settings.strict)
    items = list_items(records, patients, labels)
    columns = label_columns(items, labels)
    task = next((name for name, column in columns.items() if column.is_task), None)
    splits = draw_splits(
        items, named, settings.test_fraction, settings.validation_fraction, settings.crops.seed, stratify_key=task
    )
    names = {"label_names": {name: list(column.classes) for name, column in columns.items()}}
    head = _describe(root, output, settings.crops, records)
    write_datalist(output, head | names | splits)
    return summarise(output, records, reused, origins, image_rows, box_rows, splits, labels, columns)


def _cut(
    sources: Sequence[str], labels: Labels, root: Path, output: Path, settings: FolderSettings
) -> tuple[dict[str, Record | InputError], int]:
    """The record or error of each image, and how many an earlier run had left."""
    regions, crops = labels.regions(), settings.crops
    jobs = [numbered_job(source, crops, regions.get(source, ())) for source in sources]
    return prepare_images(jobs, root, Records(output), crops, settings.workers, settings.overwrite, settings.time_limit)


def find_images(root: Path, output: Path) -> tuple[list[str], list[ReportRow]]:
    """
    List the files under a folder (:func:`miram.readers.search.search`), without those of the prepared folder inside.

    Returns:
        the images' relative paths, sorted, and a report row for each other file.

    Raises:
        InputError: if the folder is missing or the prepared folder itself, or holds no image.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    if root.resolve() == output.resolve():
        raise InputError(f"--input_dir and --output_dir are both {root}; give the output a folder of its own")
    found = search(root, without=output)
    others = [ReportRow(name, "error", reason) for name, reason in found.problems.items()]
    others += [ReportRow(name, "skipped", reason) for name, reason in (found.repeated | found.ignored).items()]
    sources = [name for name in found.files if is_image_file(root / name)]
    others += [ReportRow(name, "skipped", "not an image file") for name in sorted(set(found.files) - set(sources))]
    if not sources:
        first = next((f"; {name}: {reason}" for name, reason in found.problems.items()), "")
        raise InputError(f"{root} holds no image (of {len(others)} files{first}); give {format_names(' or ')}")
    return sources, others


def _report(
    output: Path,
    image_rows: Sequence[ReportRow],
    table_rows: Sequence[ReportRow],
    records: Sequence[Record],
    strict: bool,
) -> None:
    """Write the report; stop there if no data list can be made of what was read."""
    (output / FILE_NAME).unlink(missing_ok=True)  # an earlier run's does not match the new report
    rows = [*sorted(image_rows, key=lambda row: row.source), *table_rows]
    write_report(output / "report.csv", rows)
    errors = [row for row in rows if row.status == "error"]
    if strict and errors:
        raise InputError(
            f"{len(errors)} rows of {output / 'report.csv'} are errors (--strict); the first: {errors[0].reason}"
        )
    if not records:
        first = next((row.reason for row in rows if row.status == "error" or row.scaling), "")
        raise InputError(f"no image gave a crop; {output / 'report.csv'} says why, the first: {first}")
    kinds = {record.spatial_dims: record.source for record in records}
    if len(kinds) > 1:
        raise InputError(
            f"the folder mixes 2D images ({kinds[2]}) and volumes ({kinds[3]}); "
            "give --overwrite with --spatial_dims 2 or --spatial_dims 3 to keep one kind"
        )


def _describe(root: Path, output: Path, settings: CropSettings, records: Sequence[Record]) -> dict[str, Any]:
    modalities = sorted({record.header.get("modality") or "unknown" for record in records})
    return {
        "name": as_text(output.resolve().name),
        "modality": modalities[0] if len(modalities) == 1 else f"mixed: {', '.join(modalities)}",
        "source": "a folder of images",
        "licence": "unknown",
        "generated": is_generated(root),
        "prepared": settings.facts(records[0].spatial_dims),
    }
