"""Features of images from a pretrained encoder, in one file, and the nearest neighbours of an image as a picture."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

from miram.cli import main_guard

EXPLANATION = """\
--input_dir: a prepared folder (all images of its datalist.json, with their patients), or any folder with its subfolders
  (patients are numbered as the DICOM headers tell them apart; nothing of a header is kept).
--output: features.npz holds the arrays file, patient, one per feature, and provenance (JSON):

    content = numpy.load("features.npz"); content["mean"].shape, content["file"][0]

  features.parquet has a row per image (pandas.read_parquet; needs pyarrow: pip install pyarrow). token is the encoder's
  class token, mean the mean of its patches, both as wide as the encoder; grid is every patch, (rows, columns, width).
--window: center cuts the part of a crop that the encoder saw in pretraining; whole downsamples the whole image into it,
  which describes whole mammograms.

The same command continues an interrupted run. Images that cannot be read are left out, and each is named.
--neighbours draws the images whose features are the most similar (cosine, after the mean of all images is subtracted):

    python scripts/embed.py --input_dir data/cbis_ddsm --backbone runs/pretrain/backbone.pt --output features.npz \\
        --neighbours images/mass_P_00001_LEFT_CC_1.png
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input_dir", required=True, help="a prepared folder, or any folder of images")
    add("--backbone", default="runs/pretrain/backbone.pt", help="the encoder (default %(default)s)")
    add("--output", default="features.npz", help="file to write, .npz or .parquet (default %(default)s)")
    add(
        "--features",
        nargs="+",
        choices=("token", "mean", "grid"),
        default=["token", "mean"],
        help="token: the class token; mean: of the patches; grid: every patch (default token mean)",
    )
    add("--window", choices=("center", "whole"), default="center", help="what the encoder sees (default %(default)s)")
    add("--field_of_view", nargs=2, type=int, metavar="PIXELS", help="size of the window (default: of pretraining)")
    add(
        "--num_heads",
        type=int,
        help="attention heads, for weights of timm or Hugging Face (default: one per 64 of the width)",
    )
    add("--intensity", choices=("stored", "percentiles"), default="stored", help="gray levels (default %(default)s)")
    add("--batch_size", type=int, default=32, help="images at once; memory grows with it (default %(default)s)")
    add("--device", help="such as cpu or cuda:1 (default: the first GPU, or the CPU)")
    add("--precision", help="of the encoder: float32, bfloat16 or float16 (default: bfloat16 on a GPU that has it)")
    add("--neighbours", metavar="FILE", help="an image of the folder, as the output names it, or any other image")
    add("--num_neighbours", type=int, default=11, help="how many are drawn (default %(default)s)")
    add("--neighbours_png", default="neighbours.png", help="the picture (default %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, then draw the neighbours."""
    options = parse(arguments)
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # from MONAI's sine-cosine positions
    from miram.handlers.embed_images import embed_images  # after the help: torch takes seconds to load

    embed_images(**vars(options))


if __name__ == "__main__":
    main_guard(main)
