"""Training of an examination classifier on features of tiles, which fit into memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from miram.data.examinations import Breast
from miram.errors import InputError
from miram.metrics.classification import roc_auc
from miram.networks.exam_classifier import ExamClassifier
from miram.progress import progress_bar

logger = logging.getLogger(__name__)

Features = Mapping[str, torch.Tensor]  # image path -> (N, F) in float16


@dataclass(frozen=True)
class ExamTraining:
    """
    How an examination classifier is trained.

    Args:
        max_epochs: passes over the training breasts.
        batch_size: breasts.
        learning_rate: of AdamW, the peak of one cycle.
        weight_decay: of AdamW.
        view_weight: weight of the loss per view beside that per breast.
        tile_dropout: share of a view's tiles that is left out at random in training.
        hidden_size: see :class:`miram.networks.exam_classifier.ExamClassifier`.
        attention_size: see there.
        dropout_rate: see there.
        seed: of the initial weights, the order and the dropout.
    """

    max_epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    view_weight: float = 1.0
    tile_dropout: float = 0.2
    hidden_size: int = 128
    attention_size: int = 64
    dropout_rate: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.max_epochs > 0 and self.batch_size > 0 and self.learning_rate > 0):
            raise InputError("max_epochs, batch_size and learning_rate are positive numbers")
        if not 0 <= self.tile_dropout < 1:
            raise InputError(f"tile_dropout is {self.tile_dropout}; give a share from 0 to below 1")


@dataclass(frozen=True)
class ExamScores:
    """
    The logits of breasts and their views.

    Args:
        breasts: (B,).
        views: for each breast (V,).
    """

    breasts: np.ndarray
    views: list[np.ndarray]


def train_exam(
    training: Sequence[Breast], validation: Sequence[Breast], features: Features, settings: ExamTraining
) -> tuple[ExamClassifier, list[dict[str, float]]]:
    """
    Train a classifier, and keep the weights of the epoch with the lowest loss on the validation breasts.

    Args:
        training: breasts to learn from; those of unknown label are left out.
        validation: of other patients; empty keeps the last epoch.
        features: of all their views.
        settings: how.

    Returns:
        the classifier in evaluation mode, and for each epoch "epoch", "train_loss", "val_loss" and "val_auc".

    Raises:
        InputError: if the training breasts do not have both labels.
    """
    seen = [breast for breast in training if not np.isnan(breast.label)]
    if len({breast.label for breast in seen}) < 2:
        raise InputError(f"the {len(seen)} training breasts with a label have one class; give breasts of both classes")
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = make_network(features, settings)
    network.set_scale(torch.cat([features[path] for breast in seen for path in paths_of(breast)]).float())
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.max_epochs * -(-len(seen) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    weight = torch.tensor(positive_weight(seen))
    history: list[dict[str, float]] = []
    best = copy.deepcopy(network.state_dict())
    for epoch in progress_bar(settings.max_epochs, "training", "epochs", iterable=range(1, settings.max_epochs + 1)):
        losses = []
        network.train()
        for places in np.split(rng.permutation(len(seen)), range(settings.batch_size, len(seen), settings.batch_size)):
            loss = _loss(network, [seen[place] for place in places], features, settings, weight, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        row = {"epoch": epoch, "train_loss": float(np.mean(losses)), **_validate(network, validation, features, weight)}
        history.append(row)
        if not validation or row["val_loss"] <= min(one["val_loss"] for one in history):
            best = copy.deepcopy(network.state_dict())
    network.load_state_dict(best)
    return network.eval(), history


def make_network(features: Features, settings: ExamTraining) -> ExamClassifier:
    """An untrained classifier for these features."""
    width = next(iter(features.values())).shape[1]
    return ExamClassifier(width, settings.hidden_size, settings.attention_size, settings.dropout_rate)


@torch.no_grad()
def score_exams(
    network: ExamClassifier, breasts: Sequence[Breast], features: Features, batch_size: int = 16
) -> ExamScores:
    """The logits of breasts and of their views, with the network in evaluation mode."""
    network.eval()
    joined, views = [], []
    for start in range(0, len(breasts), batch_size):
        batch = breasts[start : start + batch_size]
        output = network(_inputs(batch, features))
        joined.append(output.breasts.numpy())
        views += np.split(output.views.numpy(), np.cumsum([len(breast.views) for breast in batch])[:-1])
    return ExamScores(np.concatenate(joined) if joined else np.zeros(0), views)


@torch.no_grad()
def exam_attention(network: ExamClassifier, tiles: torch.Tensor) -> torch.Tensor:
    """How much each tile (N, F) of a view counts: (N,), with a sum of 1."""
    return network.eval()([[tiles.float()]]).attention[0]


def paths_of(breast: Breast) -> list[str]:
    """The image paths of a breast's views."""
    return [str(item["image"]) for item in breast.views]


def _inputs(breasts: Sequence[Breast], features: Features) -> list[list[torch.Tensor]]:
    return [[features[path].float() for path in paths_of(breast)] for breast in breasts]


def _loss(
    network: ExamClassifier,
    batch: Sequence[Breast],
    features: Features,
    settings: ExamTraining,
    weight: torch.Tensor,
    rng: np.random.Generator,
) -> torch.Tensor:
    inputs = [[_drop(view, settings.tile_dropout, rng) for view in views] for views in _inputs(batch, features)]
    output = network(inputs)
    labels = torch.tensor([breast.label for breast in batch])
    views = torch.from_numpy(np.concatenate([breast.view_labels for breast in batch])).float()
    return _cross_entropy(output.breasts, labels, weight) + settings.view_weight * _cross_entropy(
        output.views, views, weight
    )


def _drop(tiles: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """A random choice of the tiles, at least one."""
    kept = max(1, round(len(tiles) * (1 - share)))
    return tiles[rng.permutation(len(tiles))[:kept]]


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean over known labels; positives count `weight` times."""
    known = ~labels.isnan()
    if not known.any():
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], labels[known], pos_weight=weight)


def positive_weight(breasts: Sequence[Breast]) -> float:
    """Negatives per positive, so that both classes count the same; breasts of unknown label do not count."""
    labels = [breast.label for breast in breasts]
    return labels.count(0.0) / labels.count(1.0)


def _validate(
    network: ExamClassifier, breasts: Sequence[Breast], features: Features, weight: torch.Tensor
) -> dict[str, float]:
    if not breasts:
        return {}
    logits = score_exams(network, breasts, features).breasts
    labels = np.array([breast.label for breast in breasts])
    loss = _cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels).float(), weight)
    return {"val_loss": float(loss), "val_auc": roc_auc(labels, logits)}
