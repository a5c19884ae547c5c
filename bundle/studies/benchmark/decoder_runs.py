"""One run of the study: a variant trained with one seed, and judged on the validation images."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch.utils.data import DataLoader

from miram.errors import InputError
from miram.handlers.representation import NeighborProbe
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.metrics.rank import effective_rank
from miram.optimizers import weight_decay_groups
from studies.benchmark.bands import band_sums
from studies.benchmark.controls import QuarterLoss, without_detail
from studies.benchmark.step_cost import training_step_cost
from studies.benchmark.timing import step_clock
from studies.benchmark.variants import Variant


class StudyRun:
    """
    A variant with a network, data and an optimizer.

    The learning rate is constant after its warm-up, so that a run cut at some moment is no half-finished schedule.

    Args:
        config: of pretraining, seeded.
        variant: the form of MIRAM.
        task: of the data list, whose labels a k-NN asks for; None for none.

    Raises:
        InputError: if there are no validation images, or the data list lacks the task.
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
        self.rate: float = get("learning_rate")
        groups = weight_decay_groups(self.network, get("weight_decay"))
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=get("betas"))
        self.loader: DataLoader[Any] = get("train#dataloader")
        self.warmup_steps = get("warmup_epochs") * len(self.loader)
        self.prepare_batch = get("prepare_batch")
        self.held_out: DataLoader[Any] = get("validate#dataloader")
        if not len(self.held_out.dataset):  # type: ignore[arg-type]
            raise InputError(f"{get('dataset_dir')} has no validation images; prepare it with some")
        self.probe = task and NeighborProbe(get("dataset_dir"), task, get("validate#preprocessing"))

    def train(self, epochs: int, seconds: float | None) -> dict[str, Any]:
        """
        Train until both the epochs and the time are over, and judge when each is.

        Args:
            epochs: how many.
            seconds: of training steps alone, on a CPU those of the processor; None for as long as the epochs take.

        Returns:
            the counted cost of an image, and under "same_epochs" and "same_time" what :meth:`judge` gives.
        """
        judged: dict[str, Any] = {}
        spent, step = 0.0, 0
        for epoch in itertools.count():
            self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for batch in self.loader:
                spent += self._step(batch, step)
                step += 1
                if seconds is not None and spent >= seconds and "same_time" not in judged:
                    judged["same_time"] = {"steps": step, "seconds": spent, **self.judge()}
            if epoch + 1 == epochs:
                judged["same_epochs"] = {"steps": step, "seconds": spent, **self.judge()}
            if epoch + 1 >= epochs and (seconds is None or "same_time" in judged):
                break
        judged.setdefault("same_time", judged["same_epochs"])
        cost = training_step_cost(self.network, self.loss_function, self.label_shape, self.mask_ratio)
        return {**asdict(cost), **judged}

    def _step(self, batch: dict[str, torch.Tensor], step: int) -> float:
        """Train on a batch; the seconds that it took, loading left out."""
        image, label, (keep,), _ = self.prepare_batch(batch, self.device)
        if self.variant.targets == "enlarged":
            label = without_detail(label, self.image_size)
        started = step_clock(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (step + 1) / max(self.warmup_steps, 1))
        self.optimizer.zero_grad()
        self.loss_function(self.network.train()(image, keep), label)["loss"].backward()
        self.optimizer.step()
        return step_clock(self.device) - started

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """
        What the network is worth now.

        Returns:
            "rank" (RankMe) of the validation images, "knn_auc" if there is a task, and of every scale with real
            targets the error on hidden patches as a share of that of predicting each patch's mean: "error_1x", and of
            its bands "low_1x" (what is left after averaging 2 x 2 pixels) and "high_1x".
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
        """Errors by scale and band; a scale that learns other targets than real pixels has none."""
        loss, scales = self.loss_function, self.network.scales
        known: dict[str, list[float]] = {"real": scales, "enlarged": [1], "quarter": []}
        real = known[self.variant.targets]
        places = {scale: scales.index(scale) for scale in real}  # of two decoders at one scale the first is judged
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
