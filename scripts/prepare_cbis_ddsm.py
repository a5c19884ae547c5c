"""Cut the downloaded CBIS-DDSM into 16-bit crops with masks and labels, split by patient."""

from __future__ import annotations

import argparse

from miram.cli import main_guard
from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm
from miram.prepare.image_crops import CropSettings

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
Status: 0 done (failed rows are counted), 2 bad input, or a row failed with --strict.
"""


def main() -> None:
    """Parse the arguments, prepare, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dicom_dir", required=True, help="folder with the DICOM files")
    parser.add_argument("--csv_dir", required=True, help="folder with the tables")
    parser.add_argument("--output_dir", required=True, help="output folder, new or from an earlier run of this script")
    parser.add_argument(
        "--crops",
        choices=["lesion", "tissue", "both", "whole"],
        default="lesion",
        help="crops of lesions (default; best for pretraining according to the paper), of random tissue, or both; or "
        "whole mammograms, downsampled to --crop_size, for configs/exam.yaml",
    )
    parser.add_argument("--crop_size", type=int, default=512, help="side of a crop in pixels (default 512)")
    parser.add_argument(
        "--context", type=float, default=1.5, help="smallest side of a crop, in lesion sizes (default 1.5)"
    )
    parser.add_argument("--crops_per_image", type=int, default=4, help="tissue crops per mammogram (default 4)")
    parser.add_argument(
        "--mask_tolerance",
        type=float,
        default=0.05,
        help="largest relative difference in side length if a mask has another aspect ratio (default 0.05)",
    )
    parser.add_argument(
        "--validation_fraction", type=float, default=0.2, help="share of the training patients (default 0.2)"
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
    options = vars(parser.parse_args())
    of_crops = ("crops", "crop_size", "crops_per_image", "context", "seed")
    settings = CropSettings(**{name: options.pop(name) for name in of_crops})
    print(prepare_cbis_ddsm(settings=settings, **options))


if __name__ == "__main__":
    main_guard(main)
