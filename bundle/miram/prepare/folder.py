"""Any folder of images to a prepared folder: crops, data list and report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from miram.data.datalist import FILE_NAME, SPLITS, Item, check_fraction, write_datalist
from miram.errors import InputError
from miram.jobs import run_jobs
from miram.prepare.image_crops import CropSettings, prepare_image
from miram.prepare.labels import Labels, assign_patients, label_names, read_labels
from miram.prepare.origin import is_generated
from miram.prepare.prepared import ReportRow, write_report
from miram.prepare.records import Record, Records
from miram.prepare.splits import draw_splits, named_splits
from miram.readers.formats import is_image_file


@dataclass(frozen=True)
class Summary:
    """
    What a run did.

    Args:
        output_dir: the prepared folder.
        files: found, images or not.
        images: images that gave crops.
        reused: files that an earlier run had prepared, or skipped.
        crops: crops in the data list.
        patients: patients in the data list, by split.
        origins: images by what named their patient ("csv", "pattern", "dicom", "file").
        reasons: files that gave no crop, by reason.
        tasks: the classes of each column of labels that can be learned: with two classes or more.
        dark: images whose brightest pixel is below a quarter of the range.
        spatial_dims: of the crops: 2, or 3 for volumes.
    """

    output_dir: Path
    files: int
    images: int
    reused: int
    crops: int
    patients: dict[str, int]
    origins: dict[str, int]
    reasons: dict[str, int]
    tasks: dict[str, list[str]]
    dark: int
    spatial_dims: int


def prepare_folder(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    settings: CropSettings | None = None,
    labels_csv: str | os.PathLike[str] | None = None,
    patient_pattern: str | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.0,
    workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    time_limit: float = 300.0,
) -> Summary:
    """
    Prepare every image under a folder; a second call does only what is missing.

    Args:
        input_dir: searched with its subfolders.
        output_dir: gets `datalist.json`, `report.csv`, `images/` and the records for continuing.
        settings: what decides the crops.
        labels_csv: see :func:`miram.prepare.labels.read_labels`.
        patient_pattern: see :func:`miram.prepare.labels.assign_patients`.
        validation_fraction: share of the training patients held out for validation, unless the table names some.
        test_fraction: share of the patients held out for the test; see :func:`miram.prepare.splits.draw_splits`.
        workers: see :func:`miram.jobs.run_jobs`.
        strict: an image that cannot be read stops the run after the report is written; there is no data list then, also
            where an earlier run had left one. Crops are kept.
        overwrite: forget what was prepared before.
        time_limit: seconds for a file, with `workers` other than 0; one that takes longer is an error in the report.

    Raises:
        InputError: if there is nothing to read, images and volumes are mixed, or an argument is wrong.
    """
    settings = settings or CropSettings()
    check_fraction("validation_fraction", validation_fraction)  # a wrong one is told of now, not after the work
    check_fraction("test_fraction", test_fraction)
    root, output = Path(input_dir), Path(output_dir)
    sources, rows = find_images(root, output)
    files = len(sources) + len(rows)
    labels, columns, missing = _labels(labels_csv, sources, test_fraction)
    rows += missing
    results, reused = _prepare(root, sources, Records(output), settings, workers, overwrite, time_limit)
    records = [result for result in results.values() if isinstance(result, Record) and result.outputs]
    patients, origins = assign_patients(records, labels, patient_pattern)
    named = named_splits(patients, labels)
    rows += [_row(source, result, patients.get(source, "")) for source, result in results.items()]
    (output / FILE_NAME).unlink(missing_ok=True)  # an earlier run's: beside the new report it would tell of other crops
    write_report(output / "report.csv", sorted(rows, key=lambda row: row.source))
    _check(output, rows, records, strict)
    items = [item for record in records for item in _items(record, patients[record.source], labels, columns)]
    stratify_key = columns[0] if columns else None
    splits = draw_splits(items, named, test_fraction, validation_fraction, settings.seed, stratify_key)
    classes = label_names(items, columns)
    dims = records[0].spatial_dims
    prepared = {"crops": settings.crops, "crop_size": settings.size(dims), "intensity": settings.intensity}
    head = _describe(root, output) | {"prepared": prepared, "label_names": classes}
    write_datalist(output / FILE_NAME, head | splits)
    return Summary(
        output_dir=output,
        files=files,
        images=len(records),
        reused=reused,
        crops=len(items),
        patients={split: len({item["patient"] for item in splits[split]}) for split in SPLITS},
        origins=dict(origins),
        reasons=dict(Counter(_kind(row) for row in rows if row.status != "crop")),
        tasks={name: found for name, found in classes.items() if len(found) > 1},
        dark=sum(record.dark for record in records),
        spatial_dims=dims,
    )


def _labels(
    labels_csv: str | os.PathLike[str] | None, sources: Sequence[str], test_fraction: float
) -> tuple[dict[str, Labels], list[str], list[ReportRow]]:
    """What the table says, nothing without one; see :func:`miram.prepare.labels.read_labels`."""
    if labels_csv is None:
        return {}, [], []
    labels, columns, missing = read_labels(labels_csv, sources)
    if test_fraction and any(cells.get("split") == "test" for cells in labels.values()):
        raise InputError("the table's column split says who is for the test; leave out --test_fraction, or the column")
    return labels, columns, missing


def find_images(root: Path, output: Path) -> tuple[list[str], list[ReportRow]]:
    """
    List the files under a folder, without those of the prepared folder, should it lie inside.

    Returns:
        the images' relative paths, sorted, and a report row for each other file.

    Raises:
        InputError: if the folder is missing or the prepared folder itself, or holds no image.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    if root.resolve() == output.resolve():
        raise InputError(f"--input_dir and --output_dir are both {root}; give the output a folder of its own")
    sources, others = [], []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.resolve().is_relative_to(output.resolve()):
            continue
        name = path.relative_to(root).as_posix()
        # Hidden files are notes of the operating system, also where they end in .dcm or .png (macOS's `._name`).
        if path.name.startswith(".") or not is_image_file(path):
            others.append(ReportRow(name, "skipped", "no image file"))
        else:
            sources.append(name)
    if not sources:
        raise InputError(
            f"{root} holds no image (of {len(others)} files); give DICOM, PNG, TIFF, JPEG, NIfTI, MHA or NRRD"
        )
    return sources, others


def _prepare(
    root: Path,
    sources: Sequence[str],
    records: Records,
    settings: CropSettings,
    workers: int | None,
    overwrite: bool,
    time_limit: float,
) -> tuple[dict[str, Record | InputError], int]:
    """Each source's record or error, and how many records an earlier run had left."""
    records.begin(asdict(settings), overwrite)
    results: dict[str, Record | InputError | None] = {name: records.load(name, root / name) for name in sources}
    todo = [name for name, record in results.items() if record is None]
    work = partial(prepare_image, root=root, records=records, settings=settings, key=records.key())
    done = run_jobs(todo, work, workers, "preparing", time_limit, name=lambda source: str(root / source))
    made = dict(zip(todo, done, strict=True))
    return {name: record or made[name] for name, record in results.items()}, len(sources) - len(todo)


def _row(source: str, result: Record | InputError, patient: str) -> ReportRow:
    if isinstance(result, InputError):
        return ReportRow(source, "error", str(result))
    status = "crop" if result.outputs else "skipped"
    return ReportRow(source, status, result.reason, result.outputs, patient, result.scaling)


def _check(output: Path, rows: Sequence[ReportRow], records: Sequence[Record], strict: bool) -> None:
    """Stop, the report written, where no data list can be made of what was read."""
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


def _items(record: Record, patient: str, labels: dict[str, Labels], columns: Sequence[str]) -> list[Item]:
    """An item per crop: what the header says, then the labels, which may correct it."""
    known = labels.get(record.source, {})
    common = {"mask": None, "patient": patient, "source": record.source} | record.facts
    if known.get("lesion"):
        common["lesion"] = f"{patient}/{known['lesion']}"  # a table may count them patient by patient
    return [{"image": name} | common | {column: known.get(column) for column in columns} for name in record.outputs]


def _describe(root: Path, output: Path) -> dict[str, Any]:
    head = {"name": output.resolve().name, "modality": "unknown", "source": "a folder of images", "licence": "unknown"}
    return {**head, "generated": is_generated(root)}


def _kind(row: ReportRow) -> str:
    """A short reason to count by: without the file's name."""
    return row.reason if row.status == "skipped" else "could not be read"
