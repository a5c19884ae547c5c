"""The settings of a comparison, checked before anything runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from miram.data.datalist import FILE_NAME, describe, read_datalist, remedy_of_empty
from miram.data.tasks import find_task
from miram.errors import InputError
from miram.weights.initial import lineage
from miram.weights.pretrained import is_none, read_pretrained, read_weights
from studies.comparison.peers import Peer

BASELINES = ("mae", "barlow_twins")  # each has an overlay with its name and its own overrides
FLOORS = ("floor", "handmade")  # without a network
UNTRAINED = ("scratch", "cnn", *FLOORS)  # without pretraining
METHODS = ("miram", *BASELINES, *UNTRAINED)
MODES = ("finetune", "linear_probe", "attentive_probe")  # the probes have an overlay with their name
STAGES = ("pretrain", *BASELINES, "finetune", "cnn", "library", "evaluate")
# Ids that the plan sets for each step.
PLANNED = (
    "dataset_dir",
    "label_fraction",
    "mode",
    "model",
    "output_dir",
    "prepare_data",
    "pretrained",
    "seed",
    "split",
    "task",
)


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    dataset_dir: Path  # a prepared folder; with a test split, unless there are folds
    output_dir: Path  # where a folder per step, and the table, are written
    # any of miram, mae, barlow_twins, scratch (no pretraining), cnn (a ResNet-18 from random weights), and floor and
    # handmade (classical features)
    methods: Sequence[str] = ("miram", "mae", "scratch")
    tasks: Sequence[str] = ("pathology",)  # tasks of the data list
    # every method is trained once per seed; the seed also decides which patients a label fraction keeps
    seeds: Sequence[int] = (0, 1, 2)
    label_fractions: Sequence[float] = (0.1, 1.0)  # shares of the training patients whose labels are used
    variants: Sequence[Path] = ()  # overlays of configs/pretrain.yaml; each adds a method with the name of its file
    overlays: Sequence[Path] = ()  # config files for all stages, after the stage's own
    # pretrained weights by the name of a further method, which is not pretrained here
    backbones: Mapping[str, Path] = field(default_factory=dict)
    peers: Sequence[Peer] = ()  # further methods, networks that people would use instead
    folds: int = 0  # how many parts of the training and validation patients are tested in turn; 0 tests the test split
    # how an encoder is judged: "finetune" trains it, "linear_probe" and "attentive_probe" leave it as it is. A CNN from
    # random weights has nothing that a probe could judge, and is only fine-tuned.
    modes: Sequence[str] = ("finetune",)
    # config values by stage: "pretrain" (all methods), "mae" and "barlow_twins" (only their pretraining), "finetune"
    # (all methods), "cnn" and "library" (only the training of CNNs, or of timm's and Hugging Face's networks) and
    # "evaluate"
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check everything that does not need the content of a config."""
        if self.methods or not (self.backbones or self.peers):
            _check_members("methods", self.methods, METHODS)
        _check_members("mode", self.modes, MODES)
        if "finetune" not in self.modes and self.featureless:
            raise InputError(
                f"the cnn has no pretrained features to judge by {self.modes[0]}; leave it out of the methods, give "
                "its ImageNet weights, such as cnn:resnet50=FILE, or add finetune to --mode"
            )
        for name in ("tasks", "seeds", "label_fractions"):
            _check_members(name, getattr(self, name))
        wrong = [share for share in self.label_fractions if not 0 < share <= 1]
        if wrong:
            raise InputError(f"label fraction {wrong[0]} is not above 0 and at most 1")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"folds is {self.folds}; give 2 or more, or leave it out to test the folder's test split")
        planned = [key for values in self.overrides.values() for key in values if key in PLANNED]
        if planned:
            raise InputError(f"{planned[0]!r} is set by the comparison's own options; remove it from the overrides")
        missing = [path for path in (*self.variants, *self.overlays) if not path.is_file()]
        if missing:
            raise InputError(f"there is no overlay {missing[0]}; give the path of a config file")
        taken = [path for path in self.variants if path.stem in METHODS]
        if taken:
            raise InputError(f"{taken[0]}: {taken[0].stem!r} is already a method; use --methods, or rename the file")
        self._check_backbones()
        _check_members("methods, variants, backbones and peers", self.all_methods)

    @property
    def all_methods(self) -> list[str]:
        """The methods, followed by the names of the variants, of the backbones and of the peers."""
        names = [*(path.stem for path in self.variants), *self.backbones, *(peer.name for peer in self.peers)]
        return [*self.methods, *names]

    @property
    def untrained(self) -> set[str]:
        """The methods that the comparison does not pretrain."""
        return {*UNTRAINED, *self.backbones, *(peer.name for peer in self.peers)}

    @property
    def featureless(self) -> set[str]:
        """The networks from random weights that only fine-tuning can judge."""
        return {name for name in self.methods if name == "cnn"} | {
            peer.name for peer in self.peers if not peer.has_features
        }

    def _check_backbones(self) -> None:
        for name, path in self.backbones.items():
            if name in METHODS or not re.fullmatch(r"[\w-][\w.-]*", name):
                raise InputError(f"{name}={path}: give the backbone another name, of letters, digits, - and _")
            if not path.is_file():
                raise InputError(f"{name}: there is no {path}; give the path of a backbone.pt or of public weights")


def check_data(settings: Settings) -> dict[str, Any]:
    """
    Check that the prepared folder has the tasks, and without folds a test split whose patients are not in other splits.

    Returns:
        the data list.

    Raises:
        InputError: if a task or the test split is missing, or a patient is in two splits.
    """
    datalist = read_datalist(settings.dataset_dir)  # refuses a patient in two splits
    for task in settings.tasks:
        find_task(datalist, task)
    for split in () if settings.folds else ("validation", "test"):
        if not datalist[split]:
            path = settings.dataset_dir / FILE_NAME
            raise InputError(f"the {split} split of {path} is empty; a comparison needs one: {remedy_of_empty(split)}")
    if settings.folds:
        _check_unseen(settings)
    return datalist


def _check_unseen(settings: Settings) -> None:
    """Refuse weights that were pretrained on the patients that the folds leave out, or began with such weights."""
    digest = describe(settings.dataset_dir)["sha256"]
    given = dict(settings.backbones)
    for stage in ("pretrain", *BASELINES):
        path = settings.overrides.get(stage, {}).get("init")
        if path is not None and not is_none(path):
            given[f"init of {stage}"] = Path(path)
    for name, path in given.items():
        data = [facts.get("dataset") for facts in lineage(_provenance(path))]
        if any(isinstance(facts, Mapping) and facts.get("sha256") == digest for facts in data):
            raise InputError(
                f"{name}: {path} was pretrained on {settings.dataset_dir}, so it has seen the patients that the folds "
                "leave out; let the comparison pretrain it for each fold (--methods, or --variants with its overlay)"
            )


def _provenance(path: Path) -> Mapping[str, Any]:
    content = read_weights(path)
    if "network_def" in content:
        pretrained = read_pretrained(path)
        return {} if pretrained is None else pretrained.provenance
    return content.get("provenance") or {}


def parse_assignments(texts: Sequence[str], option: str) -> dict[str, Any]:
    """
    Read `key=value` texts; a value is parsed as Python or YAML (1e-3, true, null, [1, 2]), otherwise it is text.

    Raises:
        InputError: if a text has no key or no "=".
    """
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise InputError(f"{option} {text!r} is not of the form key=value, such as max_epochs=20")
        found[key] = _parse_value(value)
    return found


def _parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _check_members(name: str, values: Sequence[Any], allowed: Sequence[Any] | None = None) -> None:
    if not values or len(set(values)) != len(values):
        raise InputError(f"{name} {list(values)}: give at least one, and each only once")
    unknown = [value for value in values if allowed is not None and value not in allowed]
    if unknown:
        raise InputError(f"{name}: {unknown[0]!r} is not one of {', '.join(map(str, allowed or ()))}")
