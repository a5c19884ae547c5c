"""
Quality per cost: forms of MIRAM, pretrained in the same way on the same data, and evaluated after the same epochs and
the same time.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import set_determinism

from miram.errors import InputError
from miram.files import write_json
from studies.benchmark.decoder_runs import StudyRun
from studies.benchmark.variants import make_variants

logger = logging.getLogger(__name__)

BASELINE = "mae"  # the others get the time that it takes for the epochs


@dataclass(frozen=True)
class StudySettings:
    """
    What is studied.

    Args:
        config_files: configs/pretrain.yaml and overlays: encoder, data, batch size, learning rate.
        dataset_dir: a prepared folder with a validation split.
        output_dir: where a JSON file per run is written.
        variants: names from :func:`studies.benchmark.variants.make_variants`; "mae" always runs first.
        seeds: seeds of weights, order, augmentation and masks.
        epochs: number of epochs after which variants are evaluated.
        task: a task of the data list for a k-NN; None for no k-NN.
        overrides: config values that replace those of the files.
    """

    config_files: Sequence[Path]
    dataset_dir: Path
    output_dir: Path
    variants: Sequence[str]
    seeds: Sequence[int]
    epochs: int
    task: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


def run_study(settings: StudySettings) -> list[dict[str, Any]]:
    """
    Run the unfinished runs.

    Returns:
        one record per variant and seed, in the order of the runs.

    Raises:
        InputError: if a variant, a config file or a config value is unknown, or there are no validation images.
    """
    names = [BASELINE, *(name for name in settings.variants if name != BASELINE)]
    records: list[dict[str, Any]] = []
    total = len(names) * len(settings.seeds)
    for number, (seed, name) in enumerate(itertools.product(settings.seeds, names), 1):
        path = settings.output_dir / f"{name}_seed_{seed}.json"
        if path.is_file():
            logger.info("%d/%d %s, seed %d: finished before", number, total, name, seed)
        else:
            logger.info("%d/%d %s, seed %d", number, total, name, seed)
            seconds = None if name == BASELINE else _find(records, BASELINE, seed)["same_epochs"]["seconds"]
            write_json(path, _run(settings, name, seed, seconds))
        records.append(json.loads(path.read_text(encoding="utf-8")))
    return records


def read_config(settings: StudySettings, seed: int) -> ConfigParser:
    """
    The merged configs with the study's values.

    Raises:
        InputError: if a file is missing, or an override sets a value that they do not have.
    """
    missing = [path for path in settings.config_files if not path.is_file()]
    if missing:
        raise InputError(f"there is no config file {missing[0]}; give the path of one, such as configs/demo.yaml")
    config = dict(ConfigParser.load_config_files([str(path) for path in settings.config_files]))
    unknown = [name for name in settings.overrides if name not in config]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not an option of the configs; options are their top-level ids")
    own = {"dataset_dir": str(settings.dataset_dir), "seed": seed, "num_workers": 0, "cache_rate": 1.0}
    return ConfigParser({**config, **own, **settings.overrides})


def _run(settings: StudySettings, name: str, seed: int, seconds: float | None) -> dict[str, Any]:
    set_determinism(seed=seed)
    config = read_config(settings, seed)
    variants = make_variants(config.get_parsed_content("encoder"))
    if name not in variants:
        raise InputError(f"there is no variant {name!r}; choose from {', '.join(variants)}")
    run = StudyRun(config, variants[name], settings.task)
    return {"variant": name, "note": variants[name].note, "seed": seed, **run.train(settings.epochs, seconds)}


def _find(records: Sequence[dict[str, Any]], variant: str, seed: int) -> dict[str, Any]:
    return next(record for record in records if (record["variant"], record["seed"]) == (variant, seed))
