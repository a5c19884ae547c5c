"""Parameter groups and learning rates of the MAE recipe, for pretraining and for fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def effective_learning_rate(base_learning_rate: float, global_batch_size: int) -> float:
    """
    The linear scaling rule (Goyal et al., arXiv 1706.02677) in MAE's form: base rate x global batch / 256.

    Args:
        base_learning_rate: the rate for 256 images.
        global_batch_size: images per optimizer step: batch x processes x accumulation.
    """
    return base_learning_rate * global_batch_size / 256


def warmup_iterations(warmup_epochs: float, max_epochs: float, epoch_length: int, shortened: float = 0.1) -> int:
    """
    Iterations over which the learning rate rises, leaving the larger part of the run for its decay.

    A warm-up of more than half of the run, as a recipe for many epochs has it in a run of few, is shortened: the rate
    would rise almost to the last step, which no recipe means. That is logged.

    Args:
        warmup_epochs: as the recipe says.
        max_epochs: of the run.
        epoch_length: iterations of an epoch.
        shortened: share of the run that becomes warm-up then; MAE's 40 of 400 epochs are a tenth.
    """
    if 2 * warmup_epochs <= max_epochs:
        return round(warmup_epochs * epoch_length)
    iterations = int(shortened * max_epochs * epoch_length)
    logger.warning(
        "warmup_epochs %g leaves no room for a decay in %g epochs: the learning rate rises over %d of %d iterations "
        "instead. Set warmup_epochs to at most half of the epochs to choose yourself",
        warmup_epochs,
        max_epochs,
        iterations,
        round(max_epochs * epoch_length),
    )
    return iterations


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """
    Two parameter groups: weight decay applies to weight matrices, not to biases, norms, tokens and positions (MAE,
    appendix A.1).

    Args:
        network: only its parameters that require a gradient are returned.
        weight_decay: weight decay of the weight matrices.

    Returns:
        groups for a `torch.optim` optimizer.
    """
    return _decay_groups([(n, p) for n, p in network.named_parameters() if p.requires_grad], weight_decay)


def _decay_groups(named: Sequence[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    no_decay = [(n, p) for n, p in named if p.ndim <= 1 or n.endswith(("token", "query", "position_embeddings"))]
    exempt = {name for name, _ in no_decay}
    return [
        {"params": [p for n, p in named if n not in exempt], "weight_decay": weight_decay},
        {"params": [p for _, p in no_decay], "weight_decay": 0.0},
    ]


def layer_decay_groups(
    network: nn.Module, num_layers: int, learning_rate: float, weight_decay: float, layer_decay: float = 0.75
) -> list[dict[str, Any]]:
    """
    Parameter groups whose learning rate decreases by a factor from each layer to the one below it (BEiT, arXiv
    2106.08254; MAE's fine-tuning), with the weight decay of :func:`weight_decay_groups`.

    Args:
        network: its `encoder` has `blocks`; only its parameters that require a gradient are returned.
        num_layers: blocks of the encoder.
        learning_rate: that of the head, the pooling and the encoder's last norm.
        weight_decay: weight decay of the weight matrices.
        layer_decay: the factor; 1 for the same rate everywhere.

    Returns:
        groups for a `torch.optim` optimizer, the highest rate first.

    Raises:
        ValueError: if the factor is not in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1, got {layer_decay}.")
    layers: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        layers.setdefault(_layer_index(name, num_layers), {})[name] = parameter
    groups = []
    for index in sorted(layers, reverse=True):
        rate = learning_rate * layer_decay ** (num_layers + 1 - index)
        part = [(name, parameter) for name, parameter in layers[index].items() if parameter.requires_grad]
        groups += [{**group, "lr": rate} for group in _decay_groups(part, weight_decay) if group["params"]]
    return groups


def _layer_index(name: str, num_layers: int) -> int:
    """The layer of a parameter: 0 for patches, tokens and positions, 1 to L for the blocks, L + 1 for the rest."""
    parts = name.split(".")
    if "encoder" not in parts:  # also a decoder's own blocks
        return num_layers + 1
    if "blocks" in parts:
        return int(parts[parts.index("blocks") + 1]) + 1
    return 0 if "patch_embedding" in parts or parts[-1] == "cls_token" else num_layers + 1
