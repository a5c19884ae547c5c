"""Measure how long it takes to read whole DICOM images with each installed decoder."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

from miram.cli import main_guard
from miram.files import write_text
from studies.benchmark.reading import measure_reading

EXPLANATION = """\
For each transfer syntax in the folder, the file with the most pixels is decoded by all of pydicom's installed plugins
(gdcm comes with this package; pip install pylibjpeg pyjpegls adds others), and read as in the prepare scripts. Times
are CPU time, which other work hardly affects: the median of the rounds, and their range.

  python scripts/benchmark_reading.py --input downloads/cbis_ddsm
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="DICOM file, or folder with its subfolders")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--output", help="also write a CSV file")
    arguments = parser.parse_args()
    table = measure_reading(arguments.input, arguments.repeats)
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("pydicom", "python-gdcm"))
    )
    for (syntax, file, pixels), rows in table.groupby(["syntax", "file", "pixels"], sort=False):
        print(f"\n{syntax}: {file}, {pixels}")
        for row in rows.to_dict("records"):
            spread = f"{1000 * row['low']:.0f} to {1000 * row['high']:.0f}"
            print(f"  {row['decoder']}: {1000 * row['cpu_seconds']:.0f} ms ({spread}) {row['note']}".rstrip())
    if arguments.output:
        write_text(Path(arguments.output), table.to_csv(index=False))
        print(arguments.output)


if __name__ == "__main__":
    main_guard(main)
