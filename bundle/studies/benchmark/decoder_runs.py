"""One run of the study: a variant trained with one seed, and evaluated on the validation images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from miram.engines.steps import TrainingStep
from miram.errors import InputError
from miram.handlers.finite_loss import FiniteLossHandler
from miram.handlers.representation import NeighborProbe
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.metrics.rank import effective_rank
from miram.optimizers import warmup_iterations, weight_decay_groups
from studies.benchmark.bands import band_sums
from studies.benchmark.controls import QuarterLoss, without_detail
from studies.benchmark.step_cost import training_step_cost
from studies.benchmark.timing import step_clock
from studies.benchmark.variants import Variant


class StudyRun:
    """
    A variant with a network, data and an optimizer.

    The learning rate is constant after its warm-up, so that stopping a run at any time does not cut off a schedule.

    Args:
        config: the config of pretraining, seeded.
        variant: the form of MIRAM.
        task: a task of the data list for a k-NN; None for no k-NN.

    Raises:
        InputError: if there are no validation images, or the data list does not have the task.
    """

    def __init__(self, config: ConfigParser, variant: Variant, task: str | None) -> None:
        get = config.get_parsed_content
        self.variant = variant
        self.device = torch.device(get("device"))  # may be given as text
        self.network = variant.build(get("encoder")).to(self.device)
        self.image_size: list[int] = get("image_size")
        self.label_shape = [get("in_channels"), *get("field_of_view")]
        self.mask_ratio: float = get("mask_ratio")
        kind = QuarterLoss if variant.targets == "quarter" else MultiScaleReconstructionLoss
        floor: float = get("patch_std_floor")
        self.loss_function = kind(self.image_size, get("patch_size"), self.network.scales, patch_std_floor=floor)
        groups = weight_decay_groups(self.network, get("weight_decay"))
        self.optimizer = torch.optim.AdamW(groups, lr=get("learning_rate"), betas=get("betas"))
        self.loader: DataLoader[Any] = get("train#dataloader")
        self.finite_loss: FiniteLossHandler = get("finite_loss")
        self.step, self.spent, self.started = TrainingStep(), 0.0, 0.0
        self.warmup_epochs: float = get("warmup_epochs")
        self.warmup_steps = 0
        self.prepare_batch = get("prepare_batch")
        self.held_out: DataLoader[Any] = get("validate#dataloader")
        if not len(self.held_out):
            raise InputError(f"{get('dataset_dir')} has no validation images; prepare it with some")
        self.probe = task and NeighborProbe(get("dataset_dir"), task, get("validate#preprocessing"))

    def train(self, epochs: int, seconds: float | None) -> dict[str, Any]:
        """
        Train until both the epochs and the time have passed, and evaluate at the end of each.

        Args:
            epochs: number of epochs.
            seconds: time of the training steps alone (CPU time on a CPU); None for as long as the epochs take.

        Returns:
            the counted cost of an image, and under "same_epochs" and "same_time" what :meth:`judge` returns.

        Raises:
            InputError: if a loss or a gradient is not finite, unless the config says to skip such steps.
        """
        self.warmup_steps = warmup_iterations(self.warmup_epochs, epochs, len(self.loader))
        judged: dict[str, Any] = {}
        trainer = self._trainer()

        def judge(name: str) -> None:
            judged[name] = {"steps": trainer.state.iteration, "seconds": self.spent, **self.judge()}

        def after_step() -> None:
            if seconds is not None and self.spent >= seconds and "same_time" not in judged:
                judge("same_time")

        def after_epoch() -> None:
            if trainer.state.epoch == epochs:
                judge("same_epochs")
            if trainer.state.epoch >= epochs and (seconds is None or "same_time" in judged):
                trainer.terminate()

        trainer.add_event_handler(Events.ITERATION_COMPLETED, after_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, after_epoch)
        trainer.run()
        judged.setdefault("same_time", judged["same_epochs"])
        cost = training_step_cost(self.network, self.loss_function, self.label_shape, self.mask_ratio)
        return {**asdict(cost), **judged}

    def _trainer(self) -> SupervisedTrainer:
        """The trainer of pretraining, with no last epoch: the handlers of :meth:`train` end it."""
        warmup = LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / max(self.warmup_steps, 1)))
        trainer = SupervisedTrainer(
            device=self.device,
            max_epochs=sys.maxsize,
            train_data_loader=self.loader,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=self.loss_function,
            prepare_batch=self._prepare,
            iteration_update=self._timed_step,
            train_handlers=[self.finite_loss],
            decollate=False,
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: warmup.step())
        # epochs count from 0 here, so that figures stay comparable with those of earlier studies
        sampler: Any = self.loader.sampler
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: sampler.set_epoch(trainer.state.epoch - 1))
        return trainer

    def _timed_step(self, engine: Any, batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        losses = self.step(engine, batch)
        self.spent += step_clock(self.device) - self.started
        return losses

    def _prepare(self, *args: Any) -> tuple[Any, ...]:
        """A batch with its masks and targets; the step's time begins after it, so that loading is left out."""
        image, label, keep, options = self.prepare_batch(*args)
        if self.variant.targets == "enlarged":
            label = without_detail(label, self.image_size)
        self.started = step_clock(self.device)
        return image, label, keep, options

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """
        Evaluate the network's current quality.

        Returns:
            "rank" (RankMe) on the validation images, "knn_auc" if there is a task, and for every scale with real
            targets the error on hidden patches as a share of that of predicting each patch's mean: "error_1x", and for
            its bands "low_1x" (means over 2 x 2 pixels) and "high_1x" (the rest).
        """
        self.network.eval()
        features = self._encode(self.held_out)
        figures = {"rank": effective_rank(features)}
        if self.probe:
            train = self._encode(DataLoader(self.probe.dataset, self.held_out.batch_size))
            figures["knn_auc"] = self.probe.scores(train, features)["knn_auc"]
        return figures | self._errors()

    def _encode(self, loader: DataLoader[Any]) -> np.ndarray:
        encoder, batches = self.network.encoder, []
        for batch in loader:
            image = downsample(batch["label"].to(self.device).float(), self.image_size)
            batches.append(encoder.pool(encoder(image)).cpu().numpy())
        return np.concatenate(batches)

    def _errors(self) -> dict[str, float]:
        """Errors by scale and band, only for scales whose targets are real pixels."""
        loss, scales = self.loss_function, self.network.scales
        known: dict[str, list[float]] = {"real": scales, "enlarged": [1], "quarter": []}
        real = known[self.variant.targets]
        places = {scale: scales.index(scale) for scale in real}  # with two decoders at one scale, the first one counts
        sums = {scale: torch.zeros(2, 2, device=self.device) for scale in real}
        for batch in self.held_out:
            image, label, (keep,), _ = self.prepare_batch(batch, self.device)
            output, targets = self.network(image, keep), loss.targets(label)
            for scale, place in places.items():
                prediction, mask = output["predictions"][place], output["masks"][place]
                sums[scale] += torch.stack(band_sums(prediction, targets[place], mask, loss.patch_size))
        figures: dict[str, float] = {}
        for scale, (error, mean) in sums.items():
            low, high = (error / mean).tolist()
            whole = (error.sum() / mean.sum()).item()
            figures |= {f"error_{scale:g}x": whole, f"low_{scale:g}x": low, f"high_{scale:g}x": high}
        return figures
