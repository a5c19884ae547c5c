"""Measure how many crops per second are read from the packed copy, and from PNG files with MONAI's transforms."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import monai
import torch

from miram.cli import main_guard
from miram.files import write_json
from miram.loading.packed import pack_folder
from studies.benchmark.loading import measure_loading

EXPLANATION = """\
The folder is packed first if necessary (scripts/pack.py). All loaders read the same training crops, in turn, in one
process. Rates are per second of CPU time, which other work hardly affects: the median of the rounds, and their range.

  python scripts/benchmark_loading.py --dataset_dir data/cbis_ddsm --output loading.json
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset_dir", required=True, help="prepared folder of 2D crops")
    parser.add_argument("--crop_size", type=int, default=448, help="side of the window in pixels (default %(default)s)")
    parser.add_argument("--batch_size", type=int, default=64, help="crops in a batch (default %(default)s)")
    parser.add_argument("--batches", type=int, default=8, help="batches per loader and round (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--output", help="also write a JSON file")
    arguments = parser.parse_args()
    pack_folder(arguments.dataset_dir)
    sizes = (arguments.crop_size, arguments.batch_size, arguments.batches, arguments.repeats)
    table = measure_loading(arguments.dataset_dir, *sizes)
    for row in table.to_dict("records"):
        print(
            f"{row['loader']}: {row['crops_per_cpu_second']:.0f} crops per CPU second "
            f"({row['low']:.0f} to {row['high']:.0f})"
        )
    if arguments.output:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__}
        content = {"crop_size": arguments.crop_size, "versions": versions, "loaders": table.to_dict("records")}
        write_json(Path(arguments.output), content)
        print(arguments.output)


if __name__ == "__main__":
    main_guard(main)
