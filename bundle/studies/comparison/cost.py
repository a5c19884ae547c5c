"""The cost of training, from the epoch tables of finished runs, and an estimate for the remaining steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from torch import nn

from miram.data.tasks import applicable_items, find_task
from miram.loading.sampling import lesion_sampler
from miram.networks.two_views import TwoViewNetwork
from studies.benchmark.step_cost import step_cost, training_step_cost
from studies.comparison.folds import fold_lists
from studies.comparison.plan import Step, effective_config
from studies.comparison.run import is_finished
from studies.comparison.settings import FLOORS, Settings


def training_seconds(
    plan: Sequence[Step], settings: Settings, method: str, task: str, label_fraction: float, mode: str = "finetune"
) -> dict[str, float]:
    """The mean seconds, over seeds and folds, of pretraining and of fine-tuning; 0 for a stage that a method lacks."""
    own = [step for step in plan if step.method == method]
    tuned = [step for step in own if is_of(step, task, label_fraction, mode)]
    return {
        "pretraining_seconds": _mean_seconds([step for step in own if step.stage == "pretrain"], settings),
        "finetuning_seconds": _mean_seconds([step for step in tuned if step.stage in ("finetune", *FLOORS)], settings),
    }


def is_of(step: Step, task: str, label_fraction: float, mode: str) -> bool:
    """Whether a step judges by this task, fraction and mode; a floor has no encoder, and is of every mode."""
    return (step.task, step.label_fraction) == (task, label_fraction) and (step.mode == mode or step.stage in FLOORS)


def pretraining_flops(plan: Sequence[Step], method: str, datalists: Mapping[str, dict[str, Any]]) -> float:
    """
    The floating-point operations of a method's whole pretraining, counted exactly; 0 without pretraining. With folds it
    is that of the first.

    They include forward and backward passes on every image of every epoch, but not validation.
    """
    step = next((step for step in plan if step.method == method and step.stage == "pretrain"), None)
    if step is None:
        return 0.0
    config = effective_config(step)
    epoch = lesion_sampler(datalists[step.fold]["training"], config.get("lesion_share")).count()
    return float(_flops_per_image(config)) * epoch * int(config["max_epochs"])


def _flops_per_image(config: dict[str, Any]) -> int:
    """The operations of a training step with the config's network and loss."""
    parser = ConfigParser(config)
    if "imports" in config:
        parser.get_parsed_content("imports")
    names = ("network_def", "loss_function", "field_of_view", "in_channels", "mask_ratio")
    network, loss_function, size, channels, mask_ratio = (parser.get_parsed_content(name) for name in names)
    if isinstance(network, TwoViewNetwork):
        shape = (channels, *config["image_size"])
        return step_cost(_TwoViewStep(network), lambda count: (torch.zeros(count, *shape),)).flops
    return training_step_cost(network, loss_function, (channels, *size), mask_ratio).flops


class _TwoViewStep(nn.Module):
    """
    The correlations of a batch of images, each compared with itself: the count does not depend on the pixels.

    MONAI's loss selects values by a mask, whose size depends on values that do not exist here; the matrix product is
    the same.
    """

    def __init__(self, network: TwoViewNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first, second = self.network(image, image)
        return (first.T @ second).sum()


def describe_plan(plan: Sequence[Step], settings: Settings, jobs: int = 1) -> str:
    """List the steps, which of them are finished, and an estimated time for the others, where possible."""
    datalists = fold_lists(settings)
    lines, total, unknown = [], 0.0, 0
    for number, step in enumerate(plan, 1):
        if is_finished(step, settings):
            state = "finished"
        else:
            seconds = estimate_seconds(step, plan, settings, datalists[step.fold])
            total += 0 if seconds is None else seconds
            unknown += seconds is None
            state = "time unknown" if seconds is None else f"about {seconds / 60:.1f} min"
        lines.append(f"{number:3}/{len(plan)} {step.name}: {state}")
    rest = f", and {unknown} steps of unknown time (no similar step has run yet)" if unknown else ""
    at_once = f" of work, {jobs} steps at once" if jobs > 1 else ""
    return "\n".join([*lines, f"still to run: about {total / 60:.1f} min{at_once}{rest}"])


def estimate_seconds(step: Step, plan: Sequence[Step], settings: Settings, datalist: dict[str, Any]) -> float | None:
    """
    Estimate a step's time from similar steps that have run at least one epoch: of its method, or else of any method.

    Returns:
        seconds; for training, the time per iteration times the iterations, otherwise the mean; None if nothing was
        measured.
    """
    alike = [other for other in plan if (other.stage, other.mode) == (step.stage, step.mode)]
    for others in ([other for other in alike if other.method == step.method], alike):
        if step.stage in ("pretrain", "finetune") and step.mode != "linear_probe":
            rates = [rate for other in others if (rate := _seconds_per_iteration(other, settings)) is not None]
            factor = iterations(step, datalist)
        else:
            rates = [_finished_seconds(other, settings) for other in others if is_finished(other, settings)]
            factor = 1
        if rates:
            return float(np.mean(rates)) * factor
    return None


def iterations(step: Step, datalist: dict[str, Any]) -> int:
    """Approximate number of batches of a training step; early stopping reduces it."""
    config = effective_config(step)
    images = float(lesion_sampler(datalist["training"], config.get("lesion_share")).count())
    if step.task is not None and step.label_fraction is not None:
        task = find_task(datalist, step.task)
        labelled = [item for item in applicable_items(datalist["training"], task) if item.get(task.key) is not None]
        images = len(labelled) * step.label_fraction
    batches = max(math.ceil(images / int(config["batch_size"])), 1)
    return max(int(config["max_epochs"]) * batches, int(config.get("min_iterations", 0)))


def _mean_seconds(steps: Sequence[Step], settings: Settings) -> float:
    """The mean of the steps' training times, or of their total times if they have no table of epochs."""
    seconds = []
    for step in steps:
        table = _history(step, settings)
        seconds.append(_finished_seconds(step, settings) if table is None else float(table["seconds"].sum()))
    return round(float(np.mean(seconds)), 3) if seconds else 0.0


def _seconds_per_iteration(step: Step, settings: Settings) -> float | None:
    table = _history(step, settings)
    return None if table is None else float(table["seconds"].sum() / table["iteration"].max())


def _history(step: Step, settings: Settings) -> pd.DataFrame | None:
    path = settings.output_dir / step.name / "history.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    return table if "seconds" in table else None  # a linear probe's table has no epochs


def _finished_seconds(step: Step, settings: Settings) -> float:
    content = json.loads((settings.output_dir / step.name / "finished.json").read_text(encoding="utf-8"))
    return float(content["seconds"])
