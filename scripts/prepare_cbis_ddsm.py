"""Cut the downloaded CBIS-DDSM into 16-bit crops with masks and labels, or list the boxes of its lesions."""

from __future__ import annotations

import argparse

from miram.cli import main_guard
from miram.errors import InputError
from miram.prepare.cbis_ddsm.boxes import BoxSummary, write_boxes
from miram.prepare.cbis_ddsm.prepare import Summary, prepare_cbis_ddsm
from miram.prepare.image_crops import CropSettings

OF_CROPS = ("crops", "crop_size", "crops_per_image", "context")
EXPLANATION = """\
--dicom_dir: the DICOM files in any layout: The Cancer Imaging Archive's (folders named by UIDs or descriptions), the
  Imaging Data Commons' (scripts/download_cbis_ddsm.py), or your own. Files are found by the series UID in the headers.
  Every crop needs the full mammogram, and lesion crops also need the mask. The cropped images of the data set are not
  used, because they have no context. If only the masks are on disk, every row becomes an error that says so.
--csv_dir: the four tables *_case_description_*_set.csv, or some of them. Also give the test tables: patients in them
  are kept out of training, and the training tables do not say who they are.
--output_dir: for datalist.json (splits and labels), images/ and masks/ (16-bit PNG, same pixels), and report.csv, which
  says what became of every row of the tables.

A lesion's crop is centred on it and shows at least --context times its size: at native resolution if that fits into
--crop_size, otherwise downsampled ("zoom" in datalist.json). Make --crop_size at least as large as the largest scale in
training (448 for ViT-B/16 at 224 with scales 1 and 2), with some room for random crops.

The same command continues an interrupted run, and retries rows whose files were missing.

--boxes_csv, in place of --output_dir: no crops, but a table with the bounding box of every lesion in pixels of the full
  mammogram, its labels and its split: a row per lesion and view. boxes_report.csv, beside boxes.csv, says what became
  of every row of the tables. For detection (docs/detection.md), continue with

  python scripts/prepare_folder.py --input_dir DICOM_DIR --boxes_csv boxes.csv --only_listed \\
    --output_dir data/lesions --crops both

  --only_listed is important: without it, the masks and cropped images would be taken for mammograms without a lesion.
  Only headers and masks are read; an interrupted run starts from the beginning.

Status: 0 done (failed rows are counted), 2 bad input, or a row failed with --strict.
"""


def main() -> None:
    """Parse the arguments, prepare, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dicom_dir", required=True, help="folder with the DICOM files")
    parser.add_argument("--csv_dir", required=True, help="folder with the tables")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--output_dir", help="output folder for crops, new or from an earlier run of this script")
    output.add_argument("--boxes_csv", help="table of the lesions' boxes to write, in place of crops")
    parser.add_argument(
        "--crops",
        choices=["lesion", "tissue", "both", "whole"],
        default="lesion",
        help="crops of lesions (default; best for pretraining according to the paper), of random tissue, or both; or "
        "whole mammograms, downsampled to --crop_size, for configs/exam.yaml",
    )
    parser.add_argument("--crop_size", type=int, default=512, help="side of a crop in pixels (default 512)")
    parser.add_argument(
        "--context",
        type=float,
        default=1.5,
        help="a lesion's crop shows at least this many times its box (default 1.5)",
    )
    parser.add_argument("--crops_per_image", type=int, default=4, help="tissue crops per mammogram (default 4)")
    parser.add_argument(
        "--mask_tolerance",
        type=float,
        default=0.05,
        help="largest relative difference in side length between mask and mammogram if their proportions differ "
        "(default 0.05)",
    )
    parser.add_argument(
        "--validation_fraction",
        type=float,
        default=0.2,
        help="share of the patients who are in no test table (default 0.2)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the validation split and the tissue crops (default 0)"
    )
    parser.add_argument("--workers", type=int, help="worker processes; 0 for none (default: one per core)")
    parser.add_argument(
        "--time_limit",
        type=float,
        default=300.0,
        help="seconds per mammogram and its masks, except with --workers 0 (default 300)",
    )
    parser.add_argument("--strict", action="store_true", help="stop if a row's files are missing or unsuitable")
    parser.add_argument("--overwrite", action="store_true", help="discard what was prepared in --output_dir before")
    arguments = parser.parse_args()
    print(list_boxes(parser, arguments) if arguments.boxes_csv else cut_crops(arguments))


def cut_crops(arguments: argparse.Namespace) -> Summary:
    """Prepare a folder of crops."""
    options = vars(arguments)
    del options["boxes_csv"]
    settings = CropSettings(**{name: options.pop(name) for name in (*OF_CROPS, "seed")})
    return prepare_cbis_ddsm(settings=settings, **options)


def list_boxes(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> BoxSummary:
    """Write a table of boxes; an option that only crops need is an error."""
    options = vars(arguments)
    del options["output_dir"]
    for name in (*OF_CROPS, "overwrite"):
        if options.pop(name) != parser.get_default(name):
            raise InputError(f"--{name} is for crops (--output_dir); give it to prepare_folder.py, or leave it out")
    return write_boxes(**options)


if __name__ == "__main__":
    main_guard(main)
