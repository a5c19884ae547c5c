"""Parameter groups, learning rates and their schedules, for pretraining and for fine-tuning."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from miram.errors import InputError

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
        "warmup_epochs %g is too long for %g epochs: the learning rate rises over %d of %d iterations instead. To set "
        "it yourself, give at most half of max_epochs",
        warmup_epochs,
        max_epochs,
        iterations,
        round(max_epochs * epoch_length),
    )
    return iterations


def annealing_start(schedule: str, max_epochs: int, annealing_epochs: int) -> int | None:
    """
    The epoch after which the schedule "infinite" anneals; None for "cosine", which has no such epoch.

    Raises:
        InputError: if the number of epochs is not a whole one, or larger than that of the run.
    """
    if schedule != "infinite":
        return None
    if not isinstance(annealing_epochs, int) or not 0 <= annealing_epochs <= max_epochs:
        raise InputError(
            f"annealing_epochs is {annealing_epochs}; give a whole number of epochs, at most max_epochs {max_epochs}"
        )
    return max_epochs - annealing_epochs


def pretraining_schedule(
    optimizer: Optimizer,
    schedule: str,
    epoch_length: int,
    max_epochs: int,
    warmup_epochs: float,
    cooldown_epochs: float,
    annealing_epochs: int,
    constant_share: float,
    final_share: float,
) -> LRScheduler:
    """
    The learning-rate schedule of a pretraining, in iterations.

    Args:
        optimizer: its rates are the highest that are reached.
        schedule: "cosine", a warm-up and a cosine to zero (MAE); or "infinite", :class:`InfiniteRate`.
        epoch_length: iterations of an epoch.
        max_epochs: of the run.
        warmup_epochs: both: from zero to the full rate.
        cooldown_epochs: infinite: from the full to the constant rate.
        annealing_epochs: infinite: the last epochs of the run, in which the rate falls from the constant one.
        constant_share: infinite: the constant rate, as a share of the full one.
        final_share: infinite: the rate at the end, as a share of the full one.

    Raises:
        InputError: if the run has no epoch, the schedule is unknown, its parts are longer than the run, or a share is
            not possible.
    """
    if max_epochs < 1:
        raise InputError(f"max_epochs is {max_epochs}; give at least 1")
    if schedule == "cosine":
        warmup_steps = warmup_iterations(warmup_epochs, max_epochs, epoch_length)
        return WarmupCosineSchedule(optimizer, warmup_steps, max_epochs * epoch_length)
    start = annealing_start(schedule, max_epochs, annealing_epochs)
    if start is None:
        raise InputError(f"schedule is {schedule!r}; give cosine or infinite")
    if warmup_epochs + cooldown_epochs > start:
        raise InputError(
            f"warmup_epochs {warmup_epochs}, cooldown_epochs {cooldown_epochs} and annealing_epochs {annealing_epochs} "
            f"are more than max_epochs {max_epochs}; lower them, or use the schedule cosine"
        )
    if not 0 < final_share <= constant_share <= 1:
        raise InputError(
            f"constant_share is {constant_share} and final_share {final_share}; give two shares above 0 and at most 1, "
            "the second not larger than the first"
        )
    ends = warmup_epochs, warmup_epochs + cooldown_epochs, start, max_epochs
    warm, cool, constant, last = (round(epochs * epoch_length) for epochs in ends)
    return LambdaLR(optimizer, InfiniteRate(warm, cool, constant, last, constant_share, final_share))


@dataclass(frozen=True)
class InfiniteRate:
    """
    The infinite learning-rate schedule (Singh et al., arXiv 2503.02844), as a share of the full rate.

    A linear warm-up; a cool-down, half a cosine, to a constant rate, at which a run can go on as long as there are new
    images; and an exponential annealing, only when a model is wanted. A longer run has the same rates up to the
    annealing, so it can go on from there, and is not warmed up again, which costs what was learnt before.
    """

    warmup_end: int  # step at which the full rate is reached
    cooldown_end: int  # step at which the constant rate is reached
    annealing_start: int  # step from which the rate falls
    total: int  # the last step
    constant_share: float  # the constant rate, as a share of the full one
    final_share: float  # the rate at the last step

    def __call__(self, step: int) -> float:
        """The share at a step."""
        if step < self.warmup_end:
            return step / self.warmup_end
        if step < self.cooldown_end:
            done = (step - self.warmup_end) / (self.cooldown_end - self.warmup_end)
            return self.constant_share + (1 - self.constant_share) * (1 + math.cos(math.pi * done)) / 2
        if step <= self.annealing_start or self.annealing_start == self.total:
            return self.constant_share
        done = min((step - self.annealing_start) / (self.total - self.annealing_start), 1)
        return self.constant_share * (self.final_share / self.constant_share) ** done


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
