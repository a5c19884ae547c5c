"""Prepare any folder of images (DICOM, PNG, TIFF, JPEG, NIfTI, MHA, NRRD; 2D or 3D) for pretraining."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from miram.cli import main_guard
from miram.prepare.folder import Summary, prepare_folder
from miram.prepare.image_crops import CROPS, CropSettings
from miram.readers.image import INTENSITIES

ORIGINS = {
    "csv": "the labels CSV",
    "pattern": "--patient_pattern",
    "dicom": "the DICOM header (numbered, the ids are not kept)",
    "file": "the file name (one file = one patient; else give --patient_pattern or --labels_csv)",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--input_dir", required=True, help="folder of images, searched with its subfolders")
    add("--output_dir", required=True, help="folder to make; the same command continues an interrupted run")
    add(
        "--crops",
        choices=CROPS,
        default="tissue",
        help="random windows of tissue, or the whole image made small (default %(default)s)",
    )
    add("--crop_size", type=int, help="pixels a side (default: 512 for images, 96 for volumes)")
    add(
        "--crops_per_image",
        type=int,
        default=32,
        help="windows of an image that is larger than a crop (default %(default)s)",
    )
    add("--min_tissue", type=float, default=0.5, help="share of a window that is tissue (default %(default)s)")
    add("--spatial_dims", type=int, choices=(2, 3), help="keep images (2) or volumes (3) only (default: what there is)")
    add(
        "--intensity",
        choices=INTENSITIES,
        default="stored",
        help="keep stored levels (default), or stretch percentiles 0.5-99.5",
    )
    add("--max_pixels", type=int, default=400_000_000, help="a larger image is an error (default %(default)s)")
    add("--labels_csv", help="CSV with a column image, optionally patient, lesion and split; other columns are labels")
    add("--patient_pattern", help="regular expression with one group that finds the patient in the relative path")
    add(
        "--validation_fraction",
        type=float,
        default=0.2,
        help="share of the patients held out while training (default %(default)s)",
    )
    add(
        "--test_fraction", type=float, default=0.0, help="share of the patients kept for the test (default %(default)s)"
    )
    add("--seed", type=int, default=0, help="of the windows and the split (default %(default)s)")
    add("--workers", type=int, help="processes; 0 is this one (default: one per core)")
    add(
        "--time_limit",
        type=float,
        default=300.0,
        help="seconds for a file, except with --workers 0 (default %(default)g)",
    )
    add("--strict", action="store_true", help="stop with status 2 if an image cannot be read")
    add("--overwrite", action="store_true", help="forget what was prepared in --output_dir before")
    return parser.parse_args(arguments)


def describe(summary: Summary, crops: str) -> str:
    """Tell what was done and what to type next."""
    split = summary.patients
    lines = [
        f"{summary.crops} crops of {summary.images} images in {summary.output_dir}",
        f"sources: {summary.files} files, {summary.reused} of them prepared by an earlier run",
        f"patients: {split['training']} training, {split['validation']} validation, {split['test']} test",
        *(f"  {count} images: patient from {ORIGINS[origin]}" for origin, count in summary.origins.items()),
        *(f"{count} of {summary.files} files gave no crop: {reason}" for reason, count in summary.reasons.items()),
    ]
    if not split["validation"]:
        lines.append("no patient is held out: validation is empty, a run on this folder cannot validate")
    if summary.dark:
        lines.append(f"{summary.dark} images are darker than a quarter of the range: try --intensity percentiles")
    for name, classes in summary.tasks.items():
        if len(classes) == 2:
            lines.append(f"task {name}: {classes[0]} or {classes[1]}; a probability is that of {classes[1]}")
    lines.append(f"every file is in {summary.output_dir / 'report.csv'}")
    return "\n".join([*lines, "", "next:", *next_commands(summary, crops)])


def next_commands(summary: Summary, crops: str) -> list[str]:
    """What to type next; windows of tissue are no lesions to be classified."""
    overlays = ["configs/volumes.yaml"] if summary.spatial_dims == 3 else []
    task = next(iter(summary.tasks), None)
    steps = [("training", "pretrain", "")]
    if task is not None and crops == "whole":
        steps.append(("training", "finetune", f" --task {task}"))
        if summary.patients["test"]:
            steps.append(("evaluating", "evaluate", f" --task {task}"))
    commands = []
    for workflow, config, options in steps:
        files = [f"configs/{config}.yaml", *overlays]
        shown = files[0] if len(files) == 1 else '"[' + ",".join(f"'{file}'" for file in files) + ']"'
        command = f"python -m monai.bundle run {workflow} --config_file {shown} --dataset_dir {summary.output_dir}"
        commands.append(f"  {command}{options}")
    if summary.tasks and crops != "whole":
        commands.append("  (labels are of whole images: to classify them, prepare another folder with --crops whole)")
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the folder and say what was done."""
    options = parse(arguments)
    settings = CropSettings(
        crops=options.crops,
        crop_size=options.crop_size,
        crops_per_image=options.crops_per_image,
        min_tissue=options.min_tissue,
        spatial_dims=options.spatial_dims,
        intensity=options.intensity,
        max_pixels=options.max_pixels,
        seed=options.seed,
    )
    summary = prepare_folder(
        options.input_dir,
        options.output_dir,
        settings,
        labels_csv=options.labels_csv,
        patient_pattern=options.patient_pattern,
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        workers=options.workers,
        strict=options.strict,
        overwrite=options.overwrite,
        time_limit=options.time_limit,
    )
    print(describe(summary, settings.crops))
    return 0


if __name__ == "__main__":
    main_guard(main)
