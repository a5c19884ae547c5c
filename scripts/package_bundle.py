"""Package a trained network as a MONAI bundle: a folder and zip for monai.bundle, the model zoo and MONAI Label."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from miram.cli import main_guard, shell_path
from miram.packaging.archive import files_of
from miram.packaging.exports import FORMATS
from miram.packaging.kinds import KINDS
from miram.packaging.package import package_bundle


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--bundle", choices=KINDS, default="classification", help="which bundle (default %(default)s)")
    add("--checkpoint", required=True, help="the model.pt of a fine-tuning run")
    add("--calibration", help="the calibration.json of its evaluation (default: the checkpoint's own, if any)")
    add("--output_dir", default="dist", help="for the bundle's folder and its zip (default %(default)s)")
    add("--formats", nargs="+", default=[], metavar="FORMAT", help=f"also export the network as: {', '.join(FORMATS)}")
    return parser.parse_args(arguments)


def main() -> None:
    """Package, then print the files and the next command."""
    arguments = parse()
    folder = package_bundle(
        Path(__file__).parents[1],
        arguments.bundle,
        arguments.checkpoint,
        arguments.output_dir,
        arguments.calibration,
        arguments.formats,
    )
    files = sorted(file.relative_to(folder) for file in files_of(folder) if "miram" not in file.parts)
    print(f"{folder} and {folder.name}.zip:")
    for file in files:
        print(f"  {file!s:<36} {(folder / file).stat().st_size / 1024:9.1f} KiB")
    config = shell_path(folder / "configs/inference.json")
    print(f"next: python -m monai.bundle run evaluating --config_file {config} --input IMAGE")


if __name__ == "__main__":
    main_guard(main)
