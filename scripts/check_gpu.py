"""Show in a few minutes what only a GPU can show: agreement with a CPU, speed, feeding, a short training."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from miram.cli import main_guard
from miram.errors import InputError
from studies.gpu_check.check import PARTS, run_check
from studies.gpu_check.settings import FULL, TOY, CheckSettings

EXPLANATION = """\
agreement    losses in float32 and bf16, masks and batches as on a CPU; a training step never waits for the GPU
loading      crops per CPU second from the packed copy, and from the files by MONAI's transforms
feeding      speed of training from the packed copy, compared with a fixed batch
steps        images/s, MFU, peak memory of whole steps of ViT-B/16 in bf16, eager and compiled, and of other libraries'
pretraining  configs/pretrain.yaml on --dataset_dir until --minutes are used up, with its curve

gpu_check.json and gpu_check.md are written after every figure. MFU is relative to the rate of a large matrix product.

  python scripts/check_gpu.py --dataset_dir data/mammograms
  python scripts/check_gpu.py --parts steps --minutes 10
  python scripts/check_gpu.py --toy --device cpu              # whether it runs, in a minute
"""


def main() -> None:
    """Run the parts, and print where the results are."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset_dir", type=Path, help="prepared folder of 2D crops (default: smooth noise is made)")
    add("--output_dir", type=Path, default=Path("runs/gpu_check"), help="(default %(default)s)")
    add("--parts", default=",".join(PARTS), help="separated by commas (default %(default)s)")
    add("--minutes", type=float, default=6.0, help="limit of all parts together (default %(default)s)")
    add("--device", default="cuda", help="(default %(default)s)")
    add("--toy", action="store_true", help="tiny sizes, to see whether everything runs")
    arguments = parser.parse_args()
    names = arguments.parts.split(",")
    if set(names) - PARTS.keys():
        raise InputError(f"--parts {arguments.parts}: give some of {', '.join(PARTS)}")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU here: give --device cpu, with --toy")
    sizes = TOY if arguments.toy else FULL
    settings = CheckSettings(device, arguments.output_dir, arguments.dataset_dir, arguments.minutes, sizes)
    run_check(settings, names)
    print(arguments.output_dir / "gpu_check.md")


if __name__ == "__main__":
    main_guard(main)
