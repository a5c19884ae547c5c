"""Collect what an evaluator predicts, in the order of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from miram.data.datalist import Item
from miram.data.tasks import Task
from miram.engines.distributed import gather_objects
from miram.errors import InputError
from miram.inference.calibrated import Calibration
from miram.metrics.classification import ThresholdRule


@dataclass(eq=False)
class PredictionCollector:
    """Keep "pred" of each sample. Samples need "index", their position in the data."""

    count: int  # how many samples there are

    def __post_init__(self) -> None:
        self.found: dict[int, np.ndarray] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that decollates its batches."""
        engine.add_event_handler(Events.STARTED, self.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)

    def clear(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.found = {}

    def add(self, engine: SupervisedEvaluator) -> None:
        """Keep a batch."""
        for sample, output in zip(list(engine.state.batch), list(engine.state.output), strict=True):
            pred = torch.as_tensor(output["pred"]).detach().float().cpu().reshape(-1)
            self.found[int(sample["index"])] = pred.numpy()

    def table(self) -> np.ndarray:
        """
        The predictions of all processes, (N, K), in the order of the data; all processes call it together.

        Raises:
            InputError: if there is not one prediction for each sample.
        """
        found = {index: pred for share in gather_objects(self.found) for index, pred in share.items()}
        missing = set(range(self.count)) - found.keys()
        if missing or len(found) != self.count:
            raise InputError(
                f"{len(found)} predictions do not match {self.count} images: the prediction for image number "
                f"{min(missing, default='?')} is missing"
            )
        return np.stack([found[index] for index in range(self.count)])


@dataclass(eq=False)
class CalibrationHandler:
    """Fit a calibration on the logits of the validation split when its evaluator is done."""

    calibration: Calibration  # fitted in place
    items: Sequence[Item]  # of the validation split, in the order of the data
    task: Task  # what is predicted
    dataset_dir: str
    scaling: bool = True  # whether to fit scale and bias
    # for the operating points, see :func:`miram.metrics.classification.choose_threshold`
    rule: ThresholdRule = "youden"
    target: float | None = None  # of the rule

    def __post_init__(self) -> None:
        self.collector = PredictionCollector(len(self.items))

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator of the validation split; its "pred" must be logits."""
        self.collector.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self.fit)

    def fit(self, engine: Engine) -> None:
        """Fit the calibration to the collected logits."""
        self.calibration.fit(
            self.items, self.collector.table(), self.task, self.dataset_dir, self.scaling, self.rule, self.target
        )
