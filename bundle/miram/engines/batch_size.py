"""
`batch_size: auto`: batches as large as the GPU's memory allows, with an unchanged number of images per optimizer step.

The idea is that of `accelerate.utils.find_executable_batch_size`, which halves after an error. Here memory is measured
from the smallest batch upwards, so that a GPU that others use, too, is not filled.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import nn

from miram.engines.devices import is_cuda
from miram.engines.distributed import gather_objects
from miram.engines.steps import TrainingStep
from miram.errors import InputError

logger = logging.getLogger(__name__)

# Not counted: what validation, the loader's next batches and a fragmented memory need.
_SHARE = 0.8


@dataclass(frozen=True)
class Batches:
    """
    How the images of an optimizer step are divided.

    Args:
        batch_size: images per process and batch.
        accumulation_steps: batches per optimizer step.
    """

    batch_size: int
    accumulation_steps: int


@dataclass(frozen=True)
class StepMemory:
    """
    The memory of a training step, measured on a GPU: a copy of the network learns from random crops.

    Args:
        network: on any device; it is not changed.
        loss_function: of the trainer.
        prepare_batch: of the trainer.
        precision: of the training step.
        label_shape: (C, *spatial) of a crop.
        device: the GPU.
    """

    network: nn.Module
    loss_function: Any
    prepare_batch: Callable[..., Any]
    precision: str
    label_shape: Sequence[int]
    device: torch.device | str

    def __call__(self, batch_size: int) -> int | None:
        """The most bytes that were in use during two steps of AdamW; None if there were not enough."""
        device = torch.device(self.device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            self.train(batch_size)
            return torch.cuda.max_memory_allocated(device) - before
        except torch.OutOfMemoryError:
            return None
        finally:
            torch.cuda.empty_cache()

    @property
    def available(self) -> int:
        """The bytes that a run may use."""
        return int(_SHARE * torch.cuda.mem_get_info(torch.device(self.device))[0])

    def train(self, batch_size: int) -> None:
        """Two steps, the second of which has the optimizer's state; not compiled, which needs no more memory."""
        device = torch.device(self.device)
        generator = torch.Generator(device).manual_seed(0)
        label = torch.rand(batch_size, *self.label_shape, generator=generator, device=device)
        index = torch.arange(batch_size)
        network = copy.deepcopy(self.network).to(device)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        step: Any = TrainingStep(self.precision)
        SupervisedTrainer(
            device=device,
            max_epochs=1,
            train_data_loader=[{"label": label, "index": index, "epoch": torch.ones_like(index)}] * 2,
            network=network,
            optimizer=torch.optim.AdamW(parameters, fused=is_cuda(device)),
            loss_function=self.loss_function,
            prepare_batch=self.prepare_batch,
            iteration_update=step,
            decollate=False,
        ).run()


def find_batches(
    batch_size: int | str,
    accumulation_steps: int,
    images_per_step: int,
    device: torch.device | str,
    memory: Any,
    divisible: bool = True,
) -> Batches:
    """
    The batches of a run. All processes call it together.

    Args:
        batch_size: a number, which is taken as it is, with `accumulation_steps`; or "auto".
        accumulation_steps: 1 with "auto", which chooses it.
        images_per_step: with "auto", images per process and optimizer step. On a GPU they come in as few batches of the
            same size as fit its memory; on a CPU, whose memory is not measured, in one.
        device: where training runs.
        memory: measures a step, see :class:`StepMemory`.
        divisible: whether the images of a step may come in several batches; not if the loss compares them.

    Raises:
        InputError: if the options contradict each other, or the smallest batch does not fit.
    """
    if isinstance(batch_size, int):
        return Batches(batch_size, accumulation_steps)
    if batch_size != "auto" or accumulation_steps != 1:
        raise InputError(
            f"batch_size is {batch_size!r} and accumulation_steps {accumulation_steps}; give batch_size a number, or "
            "auto, which chooses accumulation_steps: set images_per_step then"
        )
    if not divisible:
        raise InputError(
            "this loss compares the images of a batch, so a batch cannot be divided; give batch_size a number"
        )
    if not is_cuda(device):
        logger.info("batch_size auto measures the memory of GPUs only: here it is images_per_step, %d", images_per_step)
        return Batches(images_per_step, 1)
    found = min(gather_objects(_largest_that_fits(images_per_step, memory)))
    if not found:
        raise InputError(
            f"not even the smallest batch of images_per_step {images_per_step} fits the GPU's memory: set "
            "activation_checkpointing, take a smaller model, or shard it (fsdp.yaml) with a batch_size in numbers"
        )
    logger.info("batch_size auto: %d of %d images per step fit at once", found, images_per_step)
    return Batches(found, images_per_step // found)


def _largest_that_fits(images_per_step: int, memory: Any) -> int:
    """The largest half, quarter, ... of a step that fits; sizes are doubled until one does not. 0 if none does."""
    sizes = [images_per_step]
    while sizes[-1] % 2 == 0 and sizes[-1] > 2:
        sizes.append(sizes[-1] // 2)
    found, available = 0, memory.available
    for size in reversed(sizes):
        used = memory(size)
        if used is None or used > available:
            break
        found = size
    return found
