"""Time and count whole training steps of MIRAM's forms and of other libraries' masked autoencoders."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from miram.cli import main_guard
from miram.errors import InputError
from studies.benchmark.step_cases import ENCODERS, StepSettings, make_case
from studies.benchmark.step_kernels import count_kernels
from studies.benchmark.steps import count_growth, run_benchmark, write_benchmark

VARIANTS = "transformers,monai,lightly,mae,full,shallow,windowed,cross_attention,sub_pixel,three_scales"
PRECISIONS = ("float32", "bfloat16")
EXPLANATION = """\
A step consists of downsampling and masking the batch, both passes, and AdamW. Steps are run in turn, round after round.
Times are relative to the first of --variants in the same round, so that other work on the machine has little effect. On
a CPU they are CPU time. Operations and saved activations of an image are counted exactly, without data. On a GPU,
scripts/check_gpu.py --parts steps also measures compiled steps, peak memory and MFU.

  python scripts/benchmark.py --encoder tiny --batch_size 4 --repeats 5
  python scripts/benchmark.py --encoder base --batch_size 128 --repeats 20                 # on a GPU

mae has one decoder of MAE's size; full, shallow, windowed, cross_attention and sub_pixel have two scales with narrow
decoders; three_scales also has 4x. --variants also takes paper, the paper's form. Another library that is not installed
(pip install -e ".[bench]") or cannot run is listed with the reason.
"""


def main() -> None:
    """Measure, and write benchmark.json and benchmark.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--encoder", default="tiny", choices=ENCODERS, help="ViT-Ti, ViT-S or ViT-B (default %(default)s)")
    add("--variants", default=VARIANTS, help="separated by commas; the first is the reference (default %(default)s)")
    add("--precisions", default=",".join(PRECISIONS), help="separated by commas (default %(default)s)")
    add("--batch_size", type=int, default=8, help="images per step (default %(default)s)")
    add("--repeats", type=int, default=10, help="rounds (default %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default %(default)s)")
    add("--no_growth", action="store_true", help="do not count how cost grows with scales, image size and dimensions")
    add("--output_dir", type=Path, default=Path("runs/benchmark"), help="(default %(default)s)")
    arguments = parser.parse_args()
    precisions = arguments.precisions.split(",")
    if set(precisions) - set(PRECISIONS) or arguments.batch_size < 1 or arguments.repeats < 1:
        raise InputError(f"give precisions from {', '.join(PRECISIONS)}, and at least 1 as batch size and repeats")
    device = torch.device(arguments.device)
    settings = [StepSettings(arguments.encoder, name, arguments.batch_size, device) for name in precisions]
    result = run_benchmark(arguments.variants.split(","), settings, arguments.repeats)
    result["growth"] = [] if arguments.no_growth else count_growth(arguments.encoder)
    single = StepSettings(arguments.encoder, "bfloat16", 1, torch.device("cpu"))
    result["kernels"] = count_kernels(make_case("cross_attention", single))
    for path in write_benchmark(result, arguments.output_dir):
        print(path)


if __name__ == "__main__":
    main_guard(main)
