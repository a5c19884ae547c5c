"""
A linear probe: logistic regression on features of the frozen encoder; a model of its own, or a start for fine-tuning.

The features are computed once, and the penalty is chosen on the validation split.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from monai.engines.utils import PrepareBatch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from miram.data.tasks import Task
from miram.engines.classification import probabilities
from miram.engines.distributed import broadcast_weights, gather_objects, is_main_process, unwrap
from miram.errors import InputError
from miram.files import write_table
from miram.losses.classification import ClassificationLoss
from miram.metrics.classification import average_precision, better_sign, mean_over_classes, roc_auc
from miram.networks.classifier import ViTClassifier
from miram.transforms.augment import symmetries
from miram.weights.backbone import save_weights_file

logger = logging.getLogger(__name__)

_METRICS = ("val_auc", "val_ap", "val_loss")


@dataclass(frozen=True)
class Features:
    """The encoder's features of a split: pooled features (N, D) and targets (N, K)."""

    values: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class LinearProbe:
    """
    Logistic regression on standardised features of a classifier's encoder; the standardisation is folded into its head.

    A binary task uses one regression, a multi-label task one per class, a multi-class task a multinomial regression.
    Several processes share the images; the first fits.

    Args:
        network: its head is changed in place.
        task: what is predicted.
        training: batches of "image" and "label", without augmentation.
        validation: the same, of other patients.
        prepare_batch: moves them to the network's device and size.
        loss: for "val_loss".
        balanced: weight the classes equally.
        strengths: candidate values of scikit-learn's C, the inverse strength of the penalty.
        key_metric: chooses between them: "val_loss", "val_auc" or "val_ap".
        mirrored: also learn from mirror images and quarter turns (:func:`miram.transforms.augment.symmetries`). An
            encoder's features of them differ, and a head that has seen all relies less on the differences.

    Raises:
        InputError: if the metric is unknown, or there are no positive strengths.
    """

    network: nn.Module
    task: Task
    training: Iterable[dict[str, torch.Tensor]]
    validation: Iterable[dict[str, torch.Tensor]]
    prepare_batch: PrepareBatch
    loss: ClassificationLoss
    balanced: bool
    strengths: Sequence[float]
    key_metric: str = "val_loss"
    mirrored: bool = False

    def __post_init__(self) -> None:
        if self.key_metric not in _METRICS or not self.strengths or min(self.strengths) <= 0:
            raise InputError(
                f"probe_metric is {self.key_metric!r} and strengths is {list(self.strengths)}; a linear probe needs "
                f"one of {', '.join(_METRICS)}, and positive numbers"
            )

    def fit(self) -> pd.DataFrame:
        """
        Fit the head, in all processes.

        Returns:
            a row for each strength: "C", "val_auc", "val_ap", "val_loss", and "chosen", 0 or 1; empty but in the first
            process.
        """
        network = cast(ViTClassifier, unwrap(self.network))
        if not hasattr(network, "classification_head"):
            raise InputError("a linear probe is of a classifier, and this network is not one: leave probe_first out")
        seen = extract_features(network, self.training, self.prepare_batch, self.mirrored)
        held_out = extract_features(network, self.validation, self.prepare_batch)
        table = self._fit_head(network, seen, held_out) if is_main_process() else pd.DataFrame()
        gather_objects(None)  # the others wait here, with a long limit, while the first one fits
        broadcast_weights(network.classification_head)
        return table

    def _fit_head(self, network: ViTClassifier, seen: Features, held_out: Features) -> pd.DataFrame:
        scaler = StandardScaler().fit(seen.values)
        seen, held_out = (Features(scaler.transform(part.values), part.targets) for part in (seen, held_out))
        heads = [fit_head(seen, self.task, strength, self.balanced) for strength in self.strengths]
        rows = [
            {"C": strength, **scores_of(head, held_out, self.task, self.loss)}
            for strength, head in zip(self.strengths, heads, strict=True)
        ]
        best = _best(rows, self.key_metric)
        _set_head(network, *heads[best], scaler)
        return pd.DataFrame(rows).assign(chosen=[int(place == best) for place in range(len(rows))])

    def save(self, content: Callable[..., dict[str, Any]], output_dir: str | os.PathLike[str]) -> None:
        """
        Fit the head, and write `model.pt` and `history.csv`.

        Args:
            content: called with the network, returns the content of `model.pt`; "provenance" gets C and the metrics.
            output_dir: the folder of the run.
        """
        table = self.fit()
        if table.empty:
            return
        made = content(network=unwrap(self.network))
        metrics = table[table["chosen"] == 1].drop(columns="chosen").iloc[0].to_dict()
        made["provenance"] = {**made["provenance"], "C": metrics.pop("C"), "validation": metrics}
        save_weights_file(Path(output_dir) / "model.pt", made)
        write_table(Path(output_dir) / "history.csv", table)
        logger.info("the model is %s", Path(output_dir) / "model.pt")

    def start(self, checkpoint: str | os.PathLike[str], resume: bool) -> None:
        """
        Fit the head from which fine-tuning starts (Kumar et al., arXiv 2202.10054), unless a checkpoint goes on, or the
        encoder is not trained (an attentive probe, whose pooling is still random).

        From a head of nearly zero, the first steps change good features more than they need to.
        """
        if (resume and Path(checkpoint).exists()) or getattr(unwrap(self.network), "frozen", False):
            return
        self.fit()


@torch.no_grad()
def extract_features(
    network: ViTClassifier,
    batches: Iterable[dict[str, torch.Tensor]],
    prepare_batch: PrepareBatch,
    mirrored: bool = False,
) -> Features:
    """
    The pooled features and targets of all processes' images, in float64, with the network in evaluation mode.

    With `mirrored`, an image has a row for itself and one for each of its mirror images and quarter turns.
    """
    started = time.perf_counter()
    network.eval()
    device = next(network.parameters()).device
    values, targets = [], []
    for batch in batches:
        image, label, *_ = prepare_batch(batch, device)
        for version in symmetries(image) if mirrored else [image]:
            values.append(network.features(version).double().cpu().numpy())
            targets.append(label.double().cpu().numpy())
    shares = gather_objects((values, targets))
    values, targets = ([part for share in shares for part in share[column]] for column in (0, 1))
    found = Features(np.concatenate(values), np.concatenate(targets))
    logger.info("features of %d images, %d values each, in %.1f s", *found.values.shape, time.perf_counter() - started)
    return found


def fit_head(features: Features, task: Task, strength: float, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """
    Logistic regression on standardised features.

    Args:
        features: of the training images.
        task: what is predicted.
        strength: scikit-learn's C.
        balanced: weight the classes equally.

    Returns:
        weight (K, D) and bias (K,). A class that all images or none have gets weight 0 and a bias for its frequency.
    """
    make = LogisticRegression(C=strength, class_weight="balanced" if balanced else None, max_iter=2000)
    if task.type == "multiclass":
        known = ~np.isnan(features.targets).any(axis=1)
        return _multinomial(make, features.values[known], features.targets[known])
    parts = [_binary(make, features.values, column) for column in features.targets.T]
    return np.stack([weight for weight, _ in parts]), np.array([bias for _, bias in parts])


def _binary(regression: LogisticRegression, values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    known = ~np.isnan(labels)
    if np.unique(labels[known]).size < 2:
        positives = labels[known].sum()
        return np.zeros(values.shape[1]), math.log((positives + 0.5) / (known.sum() - positives + 0.5))
    fitted = regression.fit(values[known], labels[known])
    return fitted.coef_[0], float(fitted.intercept_[0])


def _multinomial(
    regression: LogisticRegression, values: np.ndarray, one_hot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    fitted = regression.fit(values, one_hot.argmax(axis=1))
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # for two classes, scikit-learn returns the difference
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    all_weights = np.zeros((one_hot.shape[1], values.shape[1]))
    all_biases = np.full(one_hot.shape[1], bias.min() - math.log(2 * len(values)))  # for classes that do not occur
    all_weights[fitted.classes_], all_biases[fitted.classes_] = weight, bias
    return all_weights, all_biases


def scores_of(
    head: tuple[np.ndarray, np.ndarray], features: Features, task: Task, loss: ClassificationLoss
) -> dict[str, float]:
    """The metrics of fine-tuning: "val_auc" and "val_ap", means over classes, and "val_loss", the mean over images."""
    weight, bias = head
    logits = torch.from_numpy(features.values @ weight.T + bias)
    found, labels = probabilities(logits, task).numpy(), features.targets
    per_image = copy.deepcopy(loss).cpu().per_image(logits, torch.from_numpy(labels))
    ranked = {
        name: mean_over_classes([score(labels[:, k], found[:, k]) for k in range(labels.shape[1])])
        for name, score in (("val_auc", roc_auc), ("val_ap", average_precision))
    }
    return {**ranked, "val_loss": float(per_image.mean())}


def _best(rows: Sequence[Mapping[str, float]], key_metric: str) -> int:
    """The index of the best row; the first among equals."""
    best = int(np.argmax([better_sign(key_metric) * row[key_metric] for row in rows]))
    for row in rows:
        logger.info("C %.3g: %s", row["C"], ", ".join(f"{name} {row[name]:.4f}" for name in _METRICS))
    edge = ", at the edge of the strengths" if len(rows) > 1 and best in (0, len(rows) - 1) else ""
    chosen = rows[best]
    logger.info("chosen by %s: C %.3g%s, validation AUC %.4f", key_metric, chosen["C"], edge, chosen["val_auc"])
    return best


def _set_head(network: ViTClassifier, weight: np.ndarray, bias: np.ndarray, scaler: StandardScaler) -> None:
    """Set a linear layer on the raw features to match the regression on standardised features."""
    weight = weight / scaler.scale_
    head = network.classification_head
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias - weight @ scaler.mean_))
