"""What fine-tuning adds to the steps: probabilities of a task's logits."""

from __future__ import annotations

import torch

from miram.data.tasks import Task


def probabilities(logits: torch.Tensor, task: Task, temperature: float | None = None) -> torch.Tensor:
    """
    Turn logits into probabilities, in float32.

    Args:
        logits: (B, K).
        task: a multi-class task's classes share a softmax; each class of the others has a sigmoid of its own.
        temperature: what the logits are divided by, as calibration fitted it; None is 1.

    Returns:
        (B, K), in the order of `task.scored`.
    """
    scaled = logits.float() if temperature is None else logits.float() / temperature
    return scaled.softmax(dim=1) if task.type == "multiclass" else scaled.sigmoid()
