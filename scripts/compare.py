"""Compare ways to pretrain: each is pretrained, fine-tuned and evaluated in the same way; the result is one table."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from miram.cli import main_guard
from miram.data.datalist import describe
from miram.errors import InputError
from miram.metrics.comparison import check_margin
from miram.provenance import provenance
from studies.comparison.comparison_page import write_comparison
from studies.comparison.cost import describe_plan
from studies.comparison.folds import check_label_fractions
from studies.comparison.peers import parse_peer
from studies.comparison.plan import make_plan
from studies.comparison.results import comparison_table
from studies.comparison.run import check_arguments, run_plan
from studies.comparison.settings import BASELINES, METHODS, MODES, STAGES, Settings, check_data, parse_assignments

EXPLANATION = """\
Every step is a separate run, in its own folder with a log. The same command continues an interrupted comparison, also
within a fold; with more seeds, tasks, fractions, modes or methods it extends a finished one.

  # what would run, and how long it may take
  python scripts/compare.py --dataset_dir data/cbis_ddsm --tasks pathology,mass_margins --dry_run
  # three ways to pretrain, judged by fine-tuning on the test split
  python scripts/compare.py --dataset_dir data/cbis_ddsm --methods miram,mae,scratch --tasks pathology --jobs 2
  # data without a test split, compared with common alternatives
  python scripts/compare.py --dataset_dir data/my_images --methods miram,mae,cnn,scratch,floor --tasks grade --folds 5
  # few labels: 1, 10 and 100 %, by fine-tuning and by attentive pooling of frozen features, in one table
  python scripts/compare.py --dataset_dir data/cbis_ddsm --methods miram,mae,scratch --tasks pathology \\
      --label_fractions 0.01,0.1,1.0 --mode finetune,attentive_probe
  # weights of your own beside pretrained networks of others
  python scripts/compare.py --dataset_dir data/my_images --methods mine=backbone.pt,cnn:resnet50=resnet50.pth,scratch \\
      --tasks grade --folds 5 --mode linear_probe
  # a change to the pretraining, as a method of its own; and settings of a stage
  python scripts/compare.py --dataset_dir data/my_images --methods miram,mae --variants my_decoders.yaml \\
      --tasks grade --pretrain_set max_epochs=100 --finetune_set pool=mean

miram is configs/pretrain.yaml; mae and barlow_twins (contrastive) add the overlay with their name; scratch is not
pretrained. Pretraining runs once per method and seed, on the training split. To add your own way to pretrain, write an
overlay of configs/pretrain.yaml and give it as --variants FILE. NAME=FILE is a method that starts from weights of your
own: a backbone.pt, or weights of timm or Hugging Face that fit our encoder.

Common alternatives (configs/cnn.yaml, set by --cnn_set; configs/library_encoder.yaml, set by --library_set):

  cnn, cnn:resnet50     a ResNet-18, or another one, from random weights
  cnn:resnet50=FILE     the same from ImageNet weights of torchvision or timm
  timm:NAME=FILE        any encoder of timm, with weights from a file
  timm:NAME             the same, with weights from timm's cache
  hf:FOLDER, hf:NAME    an encoder of Hugging Face (ViT, DINOv2, DINOv3 ...), from a folder or the cache

Without a network: floor is a logistic regression on brightness, lesion size and a thumbnail; handmade one on 249
features that do not change when the image is turned (intensities, bands of frequency, gradients around the centre,
local binary patterns).

--folds 5 is a cross-validation: a fifth of the training and validation patients is left out, everything is trained on
the others, pretraining too, then the patients left out are predicted. This is repeated five times, so that every
patient is predicted once, by networks that never saw them. The intervals are over patients and seeds of the pooled
predictions. Classes of the first task have similar shares in each part. The folder's own test split is not used.

--mode linear_probe judges encoders by a logistic regression on their frozen features, in seconds; attentive_probe by
attentive pooling of them. Several modes, separated by commas, are rows of one table; differences are within a mode. In
the same --output_dir the pretrainings are shared by all modes.
"""


def main() -> None:
    """Plan, run the unfinished steps, and write the table."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, lambda received, _: sys.exit(128 + received))  # also ends the running steps
    arguments = _parser().parse_args()
    check_margin(arguments.margin)
    settings = _settings(arguments)
    datalist = check_data(settings)
    plan = make_plan(settings)
    check_label_fractions(settings)
    if arguments.dry_run:
        check_arguments(plan, settings)
        print(describe_plan(plan, settings, arguments.jobs))
        return
    run_plan(plan, settings, arguments.jobs)
    table = comparison_table(plan, settings, arguments.level, arguments.margin)
    origin = provenance(seeds=list(settings.seeds), dataset=describe(settings.dataset_dir))
    for path in write_comparison(table, settings, datalist, arguments.level, arguments.margin, origin):
        print(path)


WHAT = {"cnn": "the training of CNNs", "library": "the training of encoders of timm and Hugging Face"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset_dir", type=Path, required=True, help="prepared folder; with a test split unless --folds is given")
    add("--output_dir", type=Path, default=Path("results"), help="for all runs and the table (default %(default)s)")
    add(
        "--methods",
        type=_names,
        default="miram,mae,scratch",
        help=f"any of {', '.join(METHODS)}, NAME=FILE for pretrained weights, and cnn:NAME, timm:NAME, hf:NAME, each "
        "with =FILE or not (default %(default)s)",
    )
    add(
        "--variants",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="overlays of configs/pretrain.yaml; each adds a method with the name of its file",
    )
    add("--tasks", type=_names, default="pathology", help="tasks of the data list (default %(default)s)")
    add("--seeds", type=_integers, default="0,1,2", help="seeds of training (default %(default)s)")
    add(
        "--label_fractions",
        type=_shares,
        default="0.1,1.0",
        help="shares of the training patients (default %(default)s)",
    )
    add(
        "--folds",
        type=int,
        default=0,
        help="number of folds: each part of the training and validation patients is tested once; the test split is "
        "not used (default: no folds)",
    )
    add(
        "--mode",
        type=_names,
        default="finetune",
        help=f"any of {', '.join(MODES)}: how encoders are judged (default %(default)s)",
    )
    add("--overlays", nargs="+", type=Path, default=[], help="config files for all stages")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config values of pretraining and fine-tuning")
    for stage in STAGES:
        what = WHAT.get(stage, f"{stage}'s pretraining" if stage in BASELINES else stage)
        add(f"--{stage}_set", nargs="+", default=[], metavar="KEY=VALUE", help=f"config values only for {what}")
    add("--level", default="lesion", choices=("image", "lesion", "patient"), help="counted unit (default %(default)s)")
    add("--margin", type=float, default=0.02, help="non-inferiority margin, in AUC (default %(default)s)")
    add("--jobs", type=int, default=1, help="steps at once; they share cores and GPUs (default %(default)s)")
    add("--dry_run", action="store_true", help="only print the steps and how long they may take")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    overrides = {stage: parse_assignments(getattr(arguments, f"{stage}_set"), f"--{stage}_set") for stage in STAGES}
    both = parse_assignments(arguments.set, "--set")
    for stage in ("pretrain", "finetune"):
        overrides[stage] = both | overrides[stage]
    peers = {name: peer for name in arguments.methods if (peer := parse_peer(name)) is not None}
    others = [name for name in arguments.methods if name not in peers]
    return Settings(
        dataset_dir=arguments.dataset_dir,
        output_dir=arguments.output_dir,
        methods=[name for name in others if "=" not in name],
        backbones=_backbones(others),
        peers=list(peers.values()),
        variants=arguments.variants,
        tasks=arguments.tasks,
        seeds=arguments.seeds,
        label_fractions=arguments.label_fractions,
        overlays=arguments.overlays,
        folds=arguments.folds,
        modes=arguments.mode,
        overrides=overrides,
    )


def _backbones(methods: list[str]) -> dict[str, Path]:
    pairs = [name.partition("=") for name in methods if "=" in name]
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise InputError(f"--methods {','.join(methods)}: give each backbone another name")
    return {name: Path(path) for name, _, path in pairs}


def _names(text: str) -> list[str]:
    return text.split(",")


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    main_guard(main)
