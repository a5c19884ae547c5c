"""Download the DICOM files listed in CBIS-DDSM's tables from the NCI Imaging Data Commons (no account needed)."""

from __future__ import annotations

import argparse
import sys

from miram.cli import main_guard
from miram.prepare.cbis_ddsm.download import PARTS, free_space, plan_download, run_download

EXPLANATION = """\
First download the four tables (mass_case_description_train_set.csv, mass_case_description_test_set.csv,
calc_case_description_train_set.csv, calc_case_description_test_set.csv) from The Cancer Imaging Archive,
https://www.cancerimagingarchive.net/collection/cbis-ddsm/, into one folder, the --csv_dir.
With fewer tables, fewer series are downloaded.

The whole data set is 163.5 GB: 102.6 GB of full mammograms, 60.9 GB of masks and cropped images. Lesion crops need both
(they are cut from the mammogram, with context); tissue crops need only --what full.

Each series gets a folder with its UID as name, which appears only when the series is complete. The same command
continues an interrupted download, and retries failed series. Then:

  python scripts/prepare_cbis_ddsm.py --dicom_dir OUTPUT_DIR --csv_dir CSV_DIR --output_dir data/cbis_ddsm
"""


def main() -> int:
    """Print what will be downloaded and its size, then download it; status 1 if a series is still missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv_dir", required=True, help="folder with the tables")
    parser.add_argument("--output_dir", required=True, help="folder to download to")
    parser.add_argument(
        "--what",
        choices=PARTS,
        default="all",
        help="full: mammograms; lesions: masks and cropped images (default %(default)s)",
    )
    parser.add_argument("--dry_run", action="store_true", help="only print what would be downloaded, and its size")
    parser.add_argument("--attempts", type=int, default=3, help="attempts per series (default 3)")
    parser.add_argument("--endpoint_url", default="https://s3.amazonaws.com", help="S3 service (default %(default)s)")
    parser.add_argument("--index_csv", help="index of series as CSV, instead of that of the idc-index package")
    arguments = parser.parse_args()
    plan = plan_download(arguments.csv_dir, arguments.output_dir, arguments.what, arguments.index_csv)
    print(plan, flush=True)
    print(f"{free_space(arguments.output_dir) / 1e9:.1f} GB are free in {arguments.output_dir}", flush=True)
    if arguments.dry_run:
        return 0
    failures = run_download(plan, arguments.output_dir, arguments.endpoint_url, arguments.attempts)
    for uid, reason in failures.items():
        print(f"missing: {uid}: {reason}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} series are missing; the same command tries them again", file=sys.stderr)
        return 1
    print(f"all {len(plan.wanted)} series are in {arguments.output_dir}")
    return 0


if __name__ == "__main__":
    main_guard(main)
