"""Prepare any folder of images for pretraining, 2D or 3D."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import fields

from miram.cli import main_guard, shell_path
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CROPS, CropSettings
from miram.prepare.labels import SEPARATOR
from miram.prepare.listing import LabelColumn
from miram.prepare.summary import Summary
from miram.readers.dicom_facts import NOTICES
from miram.readers.formats import format_names
from miram.readers.image import INTENSITIES

ORIGINS = {
    "csv": "the table",
    "pattern": "--patient_pattern",
    "dicom": "the DICOM header (numbered, the ids are not kept)",
    "study": "the DICOM header's study, where there is no PatientID (numbered, the UIDs are not kept)",
    "file": "the file name (one file = one patient; otherwise give --patient_pattern or a table)",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=f"{__doc__} Formats: {format_names()}.")
    add = parser.add_argument
    add("--input_dir", required=True, help="folder with images; its subfolders are searched, too")
    add("--output_dir", required=True, help="folder to create; the same command continues an interrupted run")
    add_crop_options(parser)
    add_table_options(parser)
    add(
        "--validation_fraction",
        type=float,
        default=0.2,
        help="share of the patients for validation (default %(default)s)",
    )
    add("--test_fraction", type=float, default=0.0, help="share of the patients for testing (default %(default)s)")
    add("--seed", type=int, default=0, help="seed of the windows and the split (default %(default)s)")
    add("--workers", type=int, help="worker processes; 0 for none (default: one per core)")
    add(
        "--time_limit",
        type=float,
        default=300.0,
        help="seconds per file, except with --workers 0 (default %(default)g)",
    )
    add("--strict", action="store_true", help="stop with status 2 if an image cannot be read")
    add("--overwrite", action="store_true", help="discard what was prepared in --output_dir before")
    return parser.parse_args(arguments)


def add_crop_options(parser: argparse.ArgumentParser) -> None:
    """What decides the crops (:class:`miram.prepare.image_crops.CropSettings`)."""
    add = parser.add_argument
    add(
        "--crops",
        choices=CROPS,
        help="tissue: random windows; whole: the image, downsampled; lesion: each box of --boxes_csv with its "
        "surroundings; both: lesion and tissue (default: tissue, with --boxes_csv lesion)",
    )
    add("--crop_size", type=int, help="side of a crop in pixels (default: 512 for images, 96 for volumes)")
    add(
        "--crops_per_image",
        type=int,
        help="windows of tissue per image; an image smaller than a crop gives one (default: 32, with --crops both 4)",
    )
    add("--min_tissue", type=float, default=0.5, help="smallest share of tissue in a window (default %(default)s)")
    add(
        "--context",
        type=float,
        default=1.5,
        help="a lesion's crop shows at least this many times its box (default %(default)s)",
    )
    add("--spatial_dims", type=int, choices=(2, 3), help="use only images (2) or volumes (3) (default: what is found)")
    add(
        "--intensity",
        choices=INTENSITIES,
        default="stored",
        help="keep stored levels (default), or stretch percentiles 0.5-99.5",
    )
    add("--max_pixels", type=int, default=400_000_000, help="a larger image is an error (default %(default)s)")
    add(
        "--leave_out",
        nargs="+",
        choices=NOTICES,
        default=(),
        help="DICOM images to skip, by what their headers say: "
        + "; ".join(f"{name} ({what})" for name, what in NOTICES.items()),
    )


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Who the patients are, and what is known of their images."""
    add = parser.add_argument
    add("--labels_csv", help="CSV with a column image, optionally patient, lesion and split; other columns are labels")
    add(
        "--boxes_csv",
        help="CSV with a row per lesion and the columns image, x, y, width, height (pixels of the file, from its upper "
        "left corner), optionally patient, lesion, split, laterality and view; other columns are labels; or a COCO "
        "file (.json)",
    )
    add(
        "--only_listed",
        action="store_true",
        help="leave out the images that the table does not name, such as files of masks (default: they are images "
        "without a label or a box)",
    )
    add(
        "--class_separator",
        default=SEPARATOR,
        help="separator between several classes in one cell (default %(default)s)",
    )
    add("--patient_pattern", help="regular expression with one group that finds the patient in the relative path")


def describe(summary: Summary, crops: str, views: tuple[str, str] | None = None) -> str:
    """Summarise what was done, and list the next commands; `views` are the input folder and its table of boxes."""
    split = summary.patients
    lines = [
        f"{summary.crops} crops of {summary.images} images in {summary.output_dir}",
        *describe_boxes(summary),
        f"sources: {summary.files} files, {summary.reused} of them prepared by an earlier run",
        f"patients: {split['training']} training, {split['validation']} validation, {split['test']} test",
        *(f"  {count} images: patient from {ORIGINS[origin]}" for origin, count in summary.origins.items()),
        *(f"{count} of {summary.files} files gave no crop: {reason}" for reason, count in summary.reasons.items()),
    ]
    if not split["validation"]:
        lines.append("the validation split is empty: a run on this folder cannot validate")
    for name, count in summary.notices.items():
        twins = f", {summary.pairs} of them beside the same view for presentation" if name == "for_processing" else ""
        lines.append(f"{count} images are {NOTICES[name]}{twins}: --leave_out {name} skips them")
    if summary.dark:
        lines.append(f"{summary.dark} images are darker than a quarter of the range: try --intensity percentiles")
    if summary.rows_without_image:
        lines.append(f"{summary.rows_without_image} of {summary.rows} rows of the table name no image")
    unit = "boxes" if summary.boxes else "images"
    lines += [describe_labels(name, column, unit) for name, column in summary.labels.items()]
    lines += [f"warning: {remark}" for remark in summary.remarks]
    lines.append(f"every file is in {summary.output_dir / 'report.csv'}")
    return "\n".join([*lines, "", "next:", *next_commands(summary, crops, views)])


def describe_boxes(summary: Summary) -> list[str]:
    """What became of a table of boxes, and the crops of each kind; nothing without one."""
    if not summary.boxes:
        return []
    used = summary.boxes - sum(summary.box_reasons.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.kinds.items()))
    return [
        f"crops: {kinds}; boxes: {used} of {summary.boxes} rows, {summary.lesions} lesions",
        *(f"{count} of {summary.boxes} rows gave no lesion: {why}" for why, count in summary.box_reasons.items()),
    ]


def describe_labels(name: str, column: LabelColumn, unit: str, most: int = 30) -> str:
    """The classes of a column of labels and their images or boxes, of very many the first."""
    counts = [f"{label} {count}" for label, count in column.classes.items()]
    more = [f"and {len(counts) - most} more classes"] if len(counts) > most else []
    kind = "task" if column.is_task else "column"
    text = f"{kind} {name}: {', '.join([*counts[:most], *more]) or 'no label'} ({unit}; {column.unknown} unknown)"
    if column.several:
        return f"{text}; several classes {'a box' if unit == 'boxes' else 'an image'}"
    return f"{text}; the probability given is that of {list(column.classes)[1]}" if len(counts) == 2 else text


def next_commands(summary: Summary, crops: str, views: tuple[str, str] | None) -> list[str]:
    """The next commands; windows of tissue cannot be classified, since they are not lesions."""
    overlays = ["configs/volumes.yaml"] if summary.spatial_dims == 3 else []
    task = next(iter(summary.tasks), None)
    folder = shell_path(summary.output_dir)
    steps = [("training", "pretrain", "")]
    if task is not None and crops == "whole" and summary.boxes:
        steps.append(("training", "exam", f" --task {shlex.quote(task)}"))
    elif task is not None and crops != "tissue":
        steps.append(("training", "finetune", f" --task {shlex.quote(task)}"))
        if summary.patients["test"]:
            steps.append(("evaluating", "evaluate", f" --task {shlex.quote(task)}"))
    if views and summary.boxes and summary.spatial_dims == 2:
        source, table = map(shell_path, views)
        steps.append(("training", "detector", f" --input {source} --boxes_csv {table}"))
    commands = []
    for workflow, config, options in steps:
        files = [f"configs/{config}.yaml", *overlays]
        shown = files[0] if len(files) == 1 else '"[' + ",".join(f"'{file}'" for file in files) + ']"'
        command = f"python -m monai.bundle run {workflow} --config_file {shown} --dataset_dir {folder}"
        commands.append(f"  {command}{options}")
    if summary.tasks and crops == "tissue":
        commands.append("  (labels are for whole images: to classify them, prepare another folder with --crops whole)")
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the folder and print a summary."""
    options = vars(parse(arguments))
    options["crops"] = options["crops"] or ("lesion" if options["boxes_csv"] else "tissue")
    options["leave_out"] = tuple(sorted(options["leave_out"]))
    crops = CropSettings(**{field.name: options.pop(field.name) for field in fields(CropSettings)})
    folders = options.pop("input_dir"), options.pop("output_dir")
    summary = prepare_folder(*folders, FolderSettings(crops, **options))
    views = (folders[0], options["boxes_csv"]) if options["boxes_csv"] else None
    print(describe(summary, crops.crops, views))
    return 0


if __name__ == "__main__":
    main_guard(main)
