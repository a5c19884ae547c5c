"""Export a pretrained encoder for timm, Hugging Face or stock MONAI: a folder with a config and the weights."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

from miram.cli import main_guard
from miram.packaging.export_backbone import export_backbone
from miram.weights.foreign_formats import FORMATS

# The next step for the user, in a process that does not need this package.
NEXT = {
    "timm": 'timm.create_model("local-dir:{folder}", pretrained=True)',
    "huggingface": 'transformers.ViTModel.from_pretrained("{folder}", add_pooling_layer=False)',
    "monai": "load config.json and model.pt as docs/backbone.md shows",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--backbone", default="runs/pretrain/backbone.pt", help="from a pretraining run (default %(default)s)")
    add("--format", choices=FORMATS, required=True, help="the library that will load it")
    add("--output_dir", required=True, help="folder to create; an earlier export there is replaced")
    add(
        "--image_size",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="resize the position embeddings to images of this size, one number per dimension (default: the size of "
        "pretraining)",
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Export, then print the files and how to load them."""
    arguments = parse()
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # from MONAI's sine-cosine positions
    folder = export_backbone(arguments.backbone, arguments.format, arguments.output_dir, arguments.image_size)
    print(f"{folder}:")
    for file in sorted(folder.iterdir()):
        print(f"  {file.name:<26} {file.stat().st_size / 1024:10.1f} KiB")
    print(f"next: {NEXT[arguments.format].format(folder=folder)}")


if __name__ == "__main__":
    main_guard(main)
