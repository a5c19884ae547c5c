"""The steps of a comparison: what runs, with which configs, and what a step's result depends on."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

import miram
from miram.data.datalist import FILE_NAME
from miram.errors import InputError
from miram.files import file_sha256
from studies.comparison.folds import dataset_dir_of, fold_names
from studies.comparison.peers import Peer
from studies.comparison.settings import BASELINES, FLOORS, Settings

ROOT = Path(miram.__file__).parents[2]
OUTPUTS = {"pretrain": "backbone.pt", "finetune": "model.pt", "evaluate": "predictions.csv"}
OUTPUTS |= dict.fromkeys(FLOORS, "predictions.csv")
_SCALES: dict[str, list[int]] = {"mae": [1], "barlow_twins": []}  # scales of the baselines' decoders
# Ids that decide which images pretraining sees.
IMAGES_OF_PRETRAINING = ("train#items", "train#test_items", "validate#items", "allow_test_patients")
# Ids that an encoder without pretraining must share with the pretrained ones.
_IMAGES = ("image_size", "patch_size", "in_channels", "spatial_dims")
ENCODER: tuple[str, ...] = (*_IMAGES, "hidden_size", "mlp_dim", "num_layers", "num_heads", "class_token")


@dataclass(frozen=True)
class Step:
    """One run of one method, with its own output folder."""

    stage: str  # "pretrain", "finetune", "evaluate", or the name of a floor
    method: str  # the method's name
    seed: int
    task: str | None  # what is predicted; None in pretraining
    label_fraction: float | None  # fraction of the training labels; None in pretraining
    configs: tuple[Path, ...]  # the config files; later ones take precedence
    overrides: Mapping[str, Any]  # config values that replace those of the files; paths are added when the step runs
    after: Step | None = None  # the step whose output it starts from
    fold: str = ""  # the name of its fold; empty without cross-validation
    mode: str = "finetune"  # how the encoder is judged; in pretraining and of the floors always "finetune"

    @property
    def name(self) -> str:
        """Its folder within the comparison's: stage/method/fold/task/fraction/seed; a probe is a stage of its own."""
        stage = self.stage
        if self.mode != "finetune":
            stage = {"finetune": self.mode, "evaluate": f"evaluate_{self.mode}"}[stage]
        parts = [stage, None if self.method == self.stage else self.method, self.fold, self.task]
        parts.append(None if self.label_fraction is None else f"fraction_{self.label_fraction:g}")
        return "/".join(part for part in [*parts, f"seed_{self.seed}"] if part)

    @property
    def is_result(self) -> bool:
        """Whether it produces predictions for the test split."""
        return OUTPUTS[self.stage] == "predictions.csv"


def make_plan(settings: Settings) -> list[Step]:
    """
    All steps in the order in which they run: seed by seed, so that each finished seed is a small comparison, and within
    a seed fold by fold.

    Raises:
        InputError: if an override sets a value that the config does not have, pretraining would read another split
            than the training split, or a baseline would have the wrong decoders.
    """
    _check_images_of_pretraining(settings)
    steps: list[Step] = []
    for seed, fold in product(settings.seeds, fold_names(settings)):
        trained = [name for name in settings.all_methods if name not in settings.untrained]
        pretrained = {name: replace(_pretrain(settings, name, seed), fold=fold) for name in trained}
        steps += pretrained.values()
        for task, share, mode in product(settings.tasks, settings.label_fractions, settings.modes):
            for method in methods_of(mode, settings):
                steps += _classify(settings, method, seed, fold, task, share, mode, pretrained.get(method))
    for step in steps:
        _check(step)
    return steps


def methods_of(mode: str, settings: Settings) -> list[str]:
    """The methods that are judged in a mode: floors in the first only, since they have no encoder."""
    left_out = settings.featureless if mode != "finetune" else set()
    left_out = left_out | (set(FLOORS) if mode != settings.modes[0] else set())
    return [name for name in settings.all_methods if name not in left_out]


def effective_config(step: Step) -> dict[str, Any]:
    """The step's config, unresolved: files merged and overrides applied, without the paths of this run."""
    parser = ConfigParser(deepcopy(_merged(step.configs)))
    for key, value in step.overrides.items():
        parser[key] = value
    return dict(parser.get())


def identity(step: Step, settings: Settings) -> dict[str, Any]:
    """Everything that determines a step's result, ready for JSON: the same identity gives the same result."""
    config = json.dumps(effective_config(step), sort_keys=True, default=str) if step.configs else ""
    given = {"fold": f"{step.fold} by {settings.tasks[0]}"} if step.fold else {}
    if step.stage == "finetune" and step.method in settings.backbones:
        given["backbone_sha256"] = file_sha256(settings.backbones[step.method])
    peer = _peer(settings, step.method)
    if step.stage == "finetune" and peer is not None and peer.sha256 is not None:
        given["weights_sha256"] = peer.sha256
    return {
        "step": step.name,
        "overrides": json.loads(json.dumps(dict(step.overrides), default=str)),
        "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "datalist_sha256": file_sha256(settings.dataset_dir / FILE_NAME),
        **given,
        "after": identity(step.after, settings) if step.after else None,
    }


def run_overrides(step: Step, settings: Settings) -> dict[str, Any]:
    """The step's overrides with the paths of this run; no data are generated, since the folder exists."""
    root = settings.output_dir.resolve()
    data = dataset_dir_of(step.fold, settings).resolve()
    paths = {"dataset_dir": str(data), "output_dir": str(root / step.name)}
    if step.fold and step.stage == "pretrain" and effective_config(step)["packed_dir"] is None:
        paths["packed_dir"] = str(root / "folds/packed")  # the folds have the same crops: one copy is enough
    if step.after is not None:
        given = {"finetune": "pretrained", "evaluate": "model"}[step.stage]
        paths[given] = str(root / step.after.name / OUTPUTS[step.after.stage])
    return {**step.overrides, **paths, "prepare_data": None}


def _pretrain(settings: Settings, method: str, seed: int) -> Step:
    overrides = {"seed": seed, "progress": False, **settings.overrides.get("pretrain", {})}
    configs = _configs(settings, "pretrain")
    if method in BASELINES:  # after the overlays, which may contain the decoders of several scales
        configs += (ROOT / f"configs/{method}.yaml",)
        overrides |= settings.overrides.get(method, {})
    configs += tuple(path.resolve() for path in settings.variants if path.stem == method)
    return Step("pretrain", method, seed, None, None, configs, overrides)


def _classify(
    settings: Settings,
    method: str,
    seed: int,
    fold: str,
    task: str,
    share: float,
    mode: str,
    pretrained: Step | None,
) -> list[Step]:
    """Fine-tuning and evaluation; for a floor, one step that does both."""
    make = functools.partial(Step, method=method, seed=seed, task=task, label_fraction=share, fold=fold)
    if method in FLOORS:
        allowed = settings.overrides.get("finetune", {}).get("allow_leakage")
        return [make(method, configs=(), overrides={"allow_leakage": allowed} if allowed else {})]
    make = functools.partial(make, mode=mode)
    overrides: dict[str, Any] = {"seed": seed, "progress": False, "task": task, "label_fraction": share}
    overrides |= {**_start(settings, method, seed), **settings.overrides.get("finetune", {})}
    configs = _configs(settings, "finetune", mode)
    judged = {**settings.overrides.get("evaluate", {}), "task": task, "split": "test"}
    peer = _peer(settings, method)
    if peer is not None:
        overlay, stage, loader = _OF_PEERS[peer.kind]
        configs += (ROOT / f"configs/{overlay}.yaml",)
        overrides |= {**peer.overrides, **settings.overrides.get(stage, {})}
        judged |= {"classifier#_target_": f"studies.comparison.{loader}", "num_cases": 0}  # no attention to draw
    tuned = make("finetune", configs=configs, overrides=overrides, after=pretrained)
    return [tuned, make("evaluate", configs=_configs(settings, "evaluate"), overrides=judged, after=tuned)]


# The overlay that puts a peer in place of the encoder, the name of its overrides, and what loads its model.pt.
_LIBRARY = ("library_encoder", "library", "library_encoder.load_trained_library_encoder")
_OF_PEERS = {"cnn": ("cnn", "cnn", "cnn.load_trained_cnn"), "timm": _LIBRARY, "hf": _LIBRARY}


def _peer(settings: Settings, method: str) -> Peer | None:
    """The peer with a method's name; "cnn" is a ResNet-18 from random weights."""
    if method == "cnn":
        return Peer("cnn", "resnet18")
    return next((peer for peer in settings.peers if peer.name == method), None)


def _start(settings: Settings, method: str, seed: int) -> dict[str, Any]:
    """What fine-tuning starts from, where it is not a pretraining of this comparison."""
    if method in settings.backbones:
        return {"pretrained": str(settings.backbones[method].resolve())}
    if method not in settings.untrained:
        return {}
    config = effective_config(_pretrain(settings, "miram", seed))
    return {"pretrained": "none"} | {name: config[name] for name in ENCODER}


def _configs(settings: Settings, stage: str, mode: str = "finetune") -> tuple[Path, ...]:
    own = [stage] if mode == "finetune" else [stage, mode]
    return (*(ROOT / f"configs/{name}.yaml" for name in own), *(path.resolve() for path in settings.overlays))


@functools.cache
def _merged(configs: tuple[Path, ...]) -> dict[str, Any]:
    return dict(ConfigParser.load_config_files([str(path) for path in configs]))


def _check(step: Step) -> None:
    if not step.configs:
        return
    known = _merged(step.configs)
    unknown = [key for key in step.overrides if key.partition("#")[0].partition("::")[0] not in known]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not an option of {step.stage}; options are the top-level ids of its config"
        )
    if step.stage == "pretrain":
        _check_pretraining(step)
    if step.stage == "finetune" and step.mode != "linear_probe":  # which has no epochs
        _check_fine_tuning(step)


def _check_images_of_pretraining(settings: Settings) -> None:
    for stage in ("pretrain", *BASELINES):
        wrong = [key for key in settings.overrides.get(stage, {}) if key.startswith(IMAGES_OF_PRETRAINING)]
        if wrong:
            raise InputError(f"pretraining must not see a test patient; remove {wrong[0]} from the overrides")


def _check_fine_tuning(step: Step) -> None:
    config = effective_config(step)
    if config["max_epochs"] < config["val_interval"]:  # min_iterations may add epochs if there are few batches
        raise InputError(
            f"{step.name}: with max_epochs {config['max_epochs']} and val_interval {config['val_interval']} there is "
            "no validation, and therefore no best epoch; lower val_interval with --finetune_set"
        )


def _check_pretraining(step: Step) -> None:
    config = effective_config(step)
    own = _merged((ROOT / "configs/pretrain.yaml",))
    for keys in IMAGES_OF_PRETRAINING:
        found, expected = config, own
        for key in keys.split("#"):
            found, expected = found[key], expected[key]
        if found != expected:
            raise InputError(
                f"{step.name}: {keys} is {found}, but must be {expected}, because pretraining must not see a test "
                "patient; remove it from the overlays"
            )
    decoders = config["decoders"]
    needed = _SCALES.get(step.method)
    if needed is not None and [decoder.get("scale") for decoder in decoders] != needed:
        raise InputError(
            f"{step.name}: {step.method} needs decoders at the scales {needed}, but the overrides give {decoders}; set "
            f'its own with --{step.method}_set "decoders={[{"scale": scale} for scale in needed]}"'
        )
