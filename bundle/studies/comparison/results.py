"""Make the table of a comparison from the predictions of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from miram.data.tasks import Task, find_task
from miram.metrics.bootstrap import Bootstrap, Estimate
from miram.metrics.comparison import Method, average_over_seeds, compare, verdict
from miram.metrics.predictions import Level
from miram.metrics.scores import Key
from studies.comparison.cost import is_of, pretraining_flops, training_seconds
from studies.comparison.folds import fold_lists
from studies.comparison.plan import Step, methods_of
from studies.comparison.settings import Settings

METRICS: Mapping[str, Key] = {"AUC": ("auc", ""), "AP": ("average_precision", "")}
REFERENCES = ("mae", "barlow_twins", "scratch", "cnn")


def comparison_table(
    plan: Sequence[Step],
    settings: Settings,
    level: Level = "lesion",
    margin: float = 0.02,
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """
    Every method's metrics, and its differences from the baselines, from no pretraining and from the CNN.

    Args:
        level: the unit that is counted: "image", "lesion" or "patient".
        margin: the non-inferiority margin, an acceptable loss of AUC.
        bootstrap: bootstrap of the intervals, over patients and seeds.

    Returns:
        one row for each task, label fraction, mode, method, reference and metric. If `reference` is empty, the row is
        the method's mean over seeds, otherwise the paired difference method - reference within the mode. Further
        columns: `value`, `low`, `high`, `reason` (why a value or interval is missing), `verdict` (for AUC differences),
        `seeds`, `units` (images, lesions or patients), `patients`, the mean seconds of training, `pretraining_seconds`
        and `finetuning_seconds`, and the counted operations of a pretraining, `pretraining_flops`.
    """
    datalists = fold_lists(settings)
    datalist = next(iter(datalists.values()))
    pretrained = {step.method for step in plan if step.stage == "pretrain"}
    flops = {method: pretraining_flops(plan, method, datalists) for method in pretrained}
    rows: list[dict[str, object]] = []
    for name, share, mode in product(settings.tasks, settings.label_fractions, settings.modes):
        methods = _methods(plan, settings, name, share, mode)
        for method, reference, found in _cell(methods, find_task(datalist, name), level, bootstrap):
            about: dict[str, object] = {"task": name, "label_fraction": share, "mode": mode, "method": method}
            about |= {"reference": reference, "seeds": len(settings.seeds)}
            cost = training_seconds(plan, settings, method, name, share, mode)
            cost["pretraining_flops"] = flops.get(method, 0.0)
            for metric, key in METRICS.items():
                judged = verdict(found[key], margin) if reference and metric == "AUC" else ""
                rows.append({**about, "metric": metric, **_columns(found[key]), "verdict": judged, **cost})
    return pd.DataFrame(rows)


def _methods(plan: Sequence[Step], settings: Settings, task: str, share: float, mode: str) -> dict[str, Method]:
    """The predictions of all seeds, by method; those of a seed's folds make one table."""
    frames: dict[str, dict[int, list[pd.DataFrame]]] = {}
    judged = methods_of(mode, settings)
    for step in plan:
        if step.is_result and step.method in judged and is_of(step, task, share, mode):
            seeds = frames.setdefault(step.method, {})
            seeds.setdefault(step.seed, []).append(_read(settings.output_dir / step.name / "predictions.csv"))
    return {
        name: Method(name, [pd.concat(folds, ignore_index=True) for folds in seeds.values()])
        for name, seeds in frames.items()
    }


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"image": str, "patient": str, "lesion": str})


def _cell(
    methods: Mapping[str, Method], task: Task, level: Level, bootstrap: Bootstrap | None
) -> list[tuple[str, str, Mapping[Key, Estimate]]]:
    """(method, reference, estimates) of one task and label fraction; "" means no reference."""
    rest = (task.classes, task.type, level, bootstrap)
    found: list[tuple[str, str, Mapping[Key, Estimate]]] = []
    for name, method in methods.items():
        found.append((name, "", average_over_seeds(method, *rest)))
        references = [other for other in REFERENCES if other in methods and other != name]
        found += [(name, other, compare(method, methods[other], *rest)) for other in references]
    return found


def _columns(found: Estimate) -> dict[str, object]:
    value = np.nan if found.value is None else found.value
    ends = {"low": found.low, "high": found.high}
    return {
        "value": value,
        **{name: np.nan if end is None else end for name, end in ends.items()},
        "units": found.n_units,
        "patients": found.n_patients,
        "reason": found.reason or "",
    }
