"""Cut CBIS-DDSM, as it was downloaded, into 16-bit crops with masks and labels, split by patient."""

from __future__ import annotations

import argparse

from miram.cli import main_guard
from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm

EXPLANATION = """\
--dicom_dir: the DICOM files in any layout: The Cancer Imaging Archive's (folders named by UIDs or descriptions), the
  Imaging Data Commons' (scripts/download_cbis_ddsm.py), or your own. Files are found by the series UID in the headers.
  Full mammograms are needed for every crop, masks for lesion crops. The cropped images of the data set are not used:
  they have no context. With only the masks on disk every row is an error that says so.
--csv_dir: the four tables *_case_description_*_set.csv, or some of them. Give the test tables too: patients in them are
  kept out of training, which the training tables alone cannot tell.
--output_dir: gets datalist.json (splits and labels), images/ and masks/ (16-bit PNG, same pixels), and report.csv: for
  every row of the tables what became of it.

A lesion's crop is centred on it and shows at least --context times its size: at native resolution if that fits into
--crop_size, else reduced ("zoom" in datalist.json). Make --crop_size at least as large as the largest scale trained on
(448 for ViT-B/16 at 224 with scales 1 and 2), with some room for random crops.

The same command continues a run that was interrupted, and tries rows again whose files were missing.
Status: 0 done (also with rows that failed, which are counted), 2 bad input, or --strict and a row failed.
"""


def main() -> None:
    """Parse the arguments, prepare, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dicom_dir", required=True, help="folder of the DICOM files")
    parser.add_argument("--csv_dir", required=True, help="folder of the tables")
    parser.add_argument("--output_dir", required=True, help="folder to write, new or made by this script")
    parser.add_argument(
        "--crops",
        choices=["lesion", "tissue", "both"],
        default="lesion",
        help="crops of lesions (default; the paper found that they pretrain best), of random tissue, or both",
    )
    parser.add_argument("--crop_size", type=int, default=512, help="side of a crop in pixels (default 512)")
    parser.add_argument(
        "--context", type=float, default=1.5, help="side of a crop in lesion sizes, at least (default 1.5)"
    )
    parser.add_argument("--crops_per_image", type=int, default=4, help="tissue crops of a mammogram (default 4)")
    parser.add_argument(
        "--mask_tolerance",
        type=float,
        default=0.05,
        help="largest difference of the sides of a mask of other proportions than its mammogram (default 0.05)",
    )
    parser.add_argument(
        "--validation_fraction", type=float, default=0.2, help="share of the training patients (default 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the validation draw and the tissue crops (default 0)")
    parser.add_argument("--workers", type=int, help="processes (default: all cores; 0: none beside this one)")
    parser.add_argument(
        "--time_limit",
        type=float,
        default=300.0,
        help="seconds for a mammogram and its masks, except with --workers 0 (default 300)",
    )
    parser.add_argument("--strict", action="store_true", help="stop if a row's files are missing or unfit")
    print(prepare_cbis_ddsm(**vars(parser.parse_args())))


if __name__ == "__main__":
    main_guard(main)
