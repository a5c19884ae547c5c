"""Study quality per cost: forms of MIRAM and controls, pretrained for the same epochs and for the same time."""

from __future__ import annotations

import argparse
from pathlib import Path

from miram.cli import main_guard
from studies.benchmark.decoder_report import write_study
from studies.benchmark.decoder_study import StudySettings, run_study
from studies.comparison.settings import parse_assignments

ROOT = Path(__file__).parents[1]
VARIANTS = (
    "mae,mae_narrow,full,shallow,windowed,cross_attention,cross_attention_both,sub_pixel,"
    "control_enlarged,control_two_at_1x,control_quarters"
)
EXPLANATION = """\
All variants start from the same encoder and use the same images, masks and order, with a constant learning rate. Each
is evaluated after --epochs, and again after the time that MAE took for them, by: the validation error on hidden
patches as a share of that of predicting each patch's mean, also separately for low (2 x 2 means) and high frequencies;
the effective rank of the representation (RankMe); and with --task the AUC of a k-NN. A finished run is a JSON file in
--output_dir. The same command continues an interrupted study, and extends it with more seeds or variants.

  python scripts/study_decoders.py --dataset_dir runs/demo/data --overlays configs/demo.yaml --task abnormality \\
      --epochs 20 --seeds 0,1 --output_dir runs/study
  python scripts/study_decoders.py --dataset_dir data/cbis_ddsm --overlays configs/model_small.yaml --task pathology \\
      --epochs 100 --output_dir runs/study_cbis --set batch_size=256

Other variants: paper (expensive), three_scales (needs 4x crops: --set field_of_view_scale=4).
"""


def main() -> None:
    """Run the unfinished runs, and write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset_dir", type=Path, required=True, help="prepared folder with a validation split")
    add("--output_dir", type=Path, required=True, help="for a file per run, study.md, study.csv and study.png")
    add("--overlays", nargs="+", type=Path, default=[], help="config files after configs/pretrain.yaml")
    add("--variants", default=VARIANTS, help="names separated by commas; mae always runs (default %(default)s)")
    add("--seeds", default="0,1,2", help="separated by commas (default %(default)s)")
    add("--epochs", type=int, default=20, help="epochs before the evaluation (default %(default)s)")
    add("--task", help="task of the data list, for the k-NN")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config values, such as batch_size=16")
    arguments = parser.parse_args()
    settings = StudySettings(
        config_files=[ROOT / "configs/pretrain.yaml", ROOT / "configs/transforms.yaml", *arguments.overlays],
        dataset_dir=arguments.dataset_dir,
        output_dir=arguments.output_dir,
        variants=arguments.variants.split(","),
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        epochs=arguments.epochs,
        task=arguments.task,
        overrides=parse_assignments(arguments.set, "--set"),
    )
    for path in write_study(run_study(settings), arguments.output_dir):
        print(path)


if __name__ == "__main__":
    main_guard(main)
