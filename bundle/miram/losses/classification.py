"""The classification loss: ignores unknown labels, weights classes, smooths targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from miram.errors import InputError


class ClassificationLoss(nn.Module):
    """
    Cross entropy for a multi-class task; binary cross entropy of each class for a binary or multi-label task.

    Targets may be fractions between 0 and 1, as mixup makes them. Targets that are NaN are ignored.

    Args:
        task_type: "binary", "multiclass" or "multilabel".
        class_weights: (2, K), the weight of a negative and of a positive target of each class; a multi-class task uses
            only the second row. None weights all equally. See :func:`balanced_weights`.
        label_smoothing: share of a target that is spread over all classes (Szegedy et al., arXiv 1512.00567).

    Raises:
        ValueError: if the smoothing is not in [0, 1).
    """

    weights: torch.Tensor

    def __init__(
        self,
        task_type: Literal["binary", "multiclass", "multilabel"],
        class_weights: Sequence[Sequence[float]] | np.ndarray | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}.")
        self.exclusive = task_type == "multiclass"
        self.label_smoothing = label_smoothing
        weights = [[1.0], [1.0]] if class_weights is None else class_weights
        self.register_buffer("weights", torch.as_tensor(np.asarray(weights), dtype=torch.float32))

    def per_entry(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        The weighted loss of each known target, 0 where unknown.

        Args:
            logits: (B, K)
            target: (B, K), NaN where unknown.

        Returns:
            (B, K) in float32; (B, 1) for a multi-class task, where a row is known or unknown as a whole.
        """
        logits, target = logits.float(), target.float()
        known = ~target.isnan()
        target = target.nan_to_num(0.0)
        negative, positive = self.weights
        if self.exclusive:
            smooth = torch.lerp(target, torch.full_like(target, 1 / target.shape[1]), self.label_smoothing)
            loss = -(positive * smooth * logits.log_softmax(dim=1)).sum(dim=1, keepdim=True)
            return loss * known.all(dim=1, keepdim=True)
        smooth = torch.lerp(target, torch.full_like(target, 0.5), self.label_smoothing)
        loss = -(positive * smooth * F.logsigmoid(logits) + negative * (1 - smooth) * F.logsigmoid(-logits))
        return loss * known

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        The mean loss over the known targets of a batch, {"loss"}, from logits (B, K) and targets (B, K).
        """
        losses = self.per_entry(logits, target)
        known = ~target.isnan()
        count = known.all(dim=1).sum() if self.exclusive else known.sum()
        return {"loss": losses.sum() / count.clamp(min=1)}

    def per_image(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Each image's mean loss over its known targets, 0 if it has none: (B, 1)."""
        losses = self.per_entry(logits, target)
        return losses.sum(dim=1, keepdim=True) / (~target.isnan()).sum(dim=1, keepdim=True).clamp(
            min=1, max=losses.shape[1]
        )


def balanced_weights(targets: np.ndarray, exclusive: bool) -> np.ndarray:
    """
    Weights that give each class the same total weight, like scikit-learn's "balanced".

    Args:
        targets: (N, K) 1, 0 or NaN, of the training set.
        exclusive: whether the classes exclude each other (multi-class). The K classes are then balanced against each
            other, instead of the negatives and positives of each class.

    Returns:
        (2, K) for :class:`ClassificationLoss`: weights of negatives and positives; 0 for those that do not occur.
    """
    positive, negative = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    if exclusive:
        counts = np.stack([positive, positive]).astype(float)
        total, shares = positive.sum(), (positive > 0).sum()
    else:
        counts = np.stack([negative, positive]).astype(float)
        total, shares = counts.sum(axis=0), (counts > 0).sum(axis=0)
    return np.divide(total, shares * counts, out=np.zeros_like(counts), where=counts > 0)


def make_classification_loss(
    task_type: Literal["binary", "multiclass", "multilabel"],
    targets: np.ndarray,
    balance: str = "weights",
    label_smoothing: float = 0.0,
) -> ClassificationLoss:
    """
    The loss for a training set.

    Args:
        task_type: "binary", "multiclass" or "multilabel".
        targets: (N, K) 1, 0 or NaN, of the training set.
        balance: "weights" balances the classes by weights; "sampling" and "none" weight all equally.
        label_smoothing: see :class:`ClassificationLoss`.

    Raises:
        InputError: if `balance` is not one of these.
    """
    if balance not in ("weights", "sampling", "none"):
        raise InputError(f"balance {balance!r} is not one of weights, sampling, none")
    weights = balanced_weights(targets, task_type == "multiclass") if balance == "weights" else None
    return ClassificationLoss(task_type, weights, label_smoothing)
