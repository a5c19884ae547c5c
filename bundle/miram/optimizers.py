"""Parameter groups and learning rates of the MAE recipe."""

from __future__ import annotations

from typing import Any

from torch import nn


def effective_learning_rate(base_learning_rate: float, global_batch_size: int) -> float:
    """
    The linear scaling rule (Goyal et al., arXiv 1706.02677) in MAE's form: base rate x global batch / 256.

    Args:
        base_learning_rate: the rate for 256 images.
        global_batch_size: images between two optimizer steps: batch x processes x accumulation.
    """
    return base_learning_rate * global_batch_size / 256


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """
    Two parameter groups: weight matrices decay; biases, norms, tokens and positions do not (MAE, appendix A.1).

    Args:
        network: only its parameters that take a gradient are returned.
        weight_decay: decay of the weight matrices.

    Returns:
        groups for a `torch.optim` optimizer.
    """
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    no_decay = [(n, p) for n, p in trained if p.ndim <= 1 or n.endswith(("token", "position_embeddings"))]
    exempt = {name for name, _ in no_decay}
    return [
        {"params": [p for n, p in trained if n not in exempt], "weight_decay": weight_decay},
        {"params": [p for _, p in no_decay], "weight_decay": 0.0},
    ]
