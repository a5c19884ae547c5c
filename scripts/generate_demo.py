"""Generate a miniature CBIS-DDSM without real patients: DICOM mammograms with lesions, and the four tables."""

from __future__ import annotations

import argparse

from miram.cli import main_guard, shell_path
from miram.generated.generate import generate_cbis_ddsm
from miram.generated.patients import CaseSettings

EXPLANATION = """\
The folder then looks like the download of CBIS-DDSM from The Cancer Imaging Archive:

  OUTPUT_DIR/dicom/PATIENT_ID/STUDY_UID/SERIES_UID/000000.dcm   full mammograms, cropped images, lesion masks
  OUTPUT_DIR/csv/mass_case_description_train_set.csv            and three more tables: findings, labels, files

so the same commands work on the real data. Labels are visible in the pixels (spicules, lobes, specks),
and malignancy is associated with them as often as in CBIS-DDSM. It is a demonstration: figures from it say nothing
about patients.

The same arguments give the same files, on any number of cores. A finished folder is not changed; an interrupted one is
completed. 60 patients take about 0.2 GB of disk, 300 take 0.9 GB.
"""


def main() -> None:
    """Generate, then print a summary and the next command."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output_dir", default="data/generated/cbis_ddsm", help="folder to create (default %(default)s)"
    )
    parser.add_argument("--patients", type=int, default=60, help="how many, at least 5 (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other patients (default %(default)s)")
    parser.add_argument("--workers", type=int, help="worker processes; 0 for none (default: one per core)")
    parser.add_argument(
        "--test_fraction", type=float, default=0.3, help="share of the patients in test tables (default %(default)s)"
    )
    arguments = parser.parse_args()
    data = generate_cbis_ddsm(
        arguments.output_dir,
        arguments.patients,
        arguments.seed,
        arguments.workers,
        CaseSettings(test_fraction=arguments.test_fraction),
    )
    state = f"{data.new_films} drawn now" if data.new_films else "all there already"
    print(f"{data.patients} patients, {data.films} mammograms ({state})")
    for name, rows in sorted(data.rows.items()):
        print(f"  {name}: {rows} rows")
    print(
        f"next: python scripts/prepare_cbis_ddsm.py --dicom_dir {shell_path(data.dicom_dir)} "
        f"--csv_dir {shell_path(data.csv_dir)} --output_dir {shell_path(data.dicom_dir.parent.with_name('prepared'))}"
    )


if __name__ == "__main__":
    main_guard(main)
