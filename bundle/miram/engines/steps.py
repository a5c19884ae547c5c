"""
One iteration of training and of validation, for the `iteration_update` of MONAI's trainer and evaluator.

MONAI's own step autocasts on CUDA only and scales gradients whenever it does. These steps let the user choose the data
type, clip gradients, and let DDP exchange gradients only when the optimizer steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from miram.engines.distributed import unwrap
from miram.errors import InputError
from miram.flags import flag

logger = logging.getLogger(__name__)
_SMALLEST_SCALE = 1e-4
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """
    The autocast context of a precision.

    Args:
        device: where the network runs.
        precision: "float32" (no autocast), "bfloat16" or "float16".

    Raises:
        InputError: for another precision, or float16 on a CPU, which has no fast kernels for it.
    """
    _check_precision(precision)
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU: use bfloat16 or float32 on a CPU")
    dtype = _DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _check_precision(precision: str) -> None:
    if precision not in _DTYPES:
        raise InputError(f"precision must be one of {', '.join(_DTYPES)}, got {precision!r}")


def in_precision(network: Callable[..., torch.Tensor], precision: str) -> Callable[..., torch.Tensor]:
    """
    A trained network for inference: it computes in a precision, and its output is float32.

    Args:
        network: its first argument is a tensor on its device, and so is its output.
        precision: see :func:`autocast`; with "float32" it is the network itself.
    """
    if precision == "float32":
        return network

    def run(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with autocast(inputs.device, precision):
            output = network(inputs, *args, **kwargs)
        return output.float()

    return run


class TrainingStep:
    """
    Forward, backward, and at the end of a group of batches an optimizer step.

    The trainer's loss function returns a tensor, as stock losses do, or a dictionary of tensors: "loss", which is
    minimised, and others that are only logged.

    A step whose loss or gradient is not finite is skipped: the weights stay as they are. Nothing here waits for a GPU:
    `engine.state.skipped` is 0 or 1 on the device, and None between two steps. From it,
    :class:`miram.handlers.FiniteLossHandler` decides whether the run stops. Overflow of float16 gradients is not a
    fault, since the scaler reacts with a smaller scale; gradients that overflow at every scale are a fault.

    Args:
        precision: "float32", "bfloat16", or "float16" with loss scaling.
        accumulation_steps: batches per optimizer step. The last group of an epoch may be smaller, and so is the only
            group of a shorter epoch: gradients are averaged over the batches that a group really has.
        clip_grad_norm: largest norm of the gradient; None does not clip.
        compile: whether `torch.compile` makes one program of the network and the loss, forward and backward. "auto"
            does so on a GPU, unless the network is sharded. If it fails, training goes on without it, and the log says
            why.
        compile_kwargs: of `torch.compile`.

    Raises:
        ValueError: if `accumulation_steps` is not positive.
        InputError: if the precision is unknown, or `compile` is neither "auto" nor true or false.
    """

    def __init__(
        self,
        precision: str = "float32",
        accumulation_steps: int = 1,
        clip_grad_norm: float | None = None,
        compile: bool | str = False,
        compile_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1, got {accumulation_steps}.")
        _check_precision(precision)
        self.precision = precision
        self.accumulation_steps = accumulation_steps
        self.clip_grad_norm = clip_grad_norm
        self.compile = None if compile == "auto" else flag("compile", compile)
        self.compile_kwargs = dict(compile_kwargs or {})
        self.forward: Callable[..., Any] | None = None
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision == "float16")

    def __call__(self, engine: SupervisedTrainer, batch: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
        """
        Train on a batch.

        Returns:
            the losses of the batch by name, detached and on the device, so that nothing waits for it. They are the
            only item of a list, the form of output that MONAI's handlers (`from_engine`, MLflow, TensorBoard) expect.
        """
        prepared = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        position, size = self._group(engine.state.iteration, engine.state.epoch_length)
        last = position == size - 1
        if position == 0:
            engine.optimizer.zero_grad(set_to_none=True)
            self.faults = torch.zeros((), device=engine.state.device)
        engine.network.train()
        with nullcontext() if last else _without_exchange(engine.network):
            losses = self._both_passes(engine, prepared, size)
        if self.scaler.is_enabled():  # with float16, gradients may overflow, but losses may not
            self.faults = torch.maximum(self.faults, _not_finite(losses["loss"].detach()))
        if last:
            self._update(engine)
        engine.state.skipped = self.faults if last else None
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return [{name: loss.detach() for name, loss in losses.items()}]

    def _both_passes(self, engine: SupervisedTrainer, prepared: tuple[Any, ...], size: int) -> dict[str, torch.Tensor]:
        """Forward and backward, compiled if that is wanted and works."""
        if self.forward is None:
            compiled = _worth_compiling(engine) if self.compile is None else self.compile
            self.forward = torch.compile(_forward, **self.compile_kwargs) if compiled else _forward
        try:
            losses = _named_losses(
                self.forward(engine.inferer, engine.network, engine.loss_function, prepared, self.precision)
            )
            # times 1, or NaN: makes a loss that is not finite show in the gradients, which all processes share
            self.scaler.scale(losses["loss"] * (losses["loss"].detach() * 0 + 1) / size).backward()
        except TorchDynamoException as error:
            logger.warning(
                "training goes on without torch.compile, more slowly: %s. Set compile to false to start like this",
                " ".join(str(error).split("\n\n")[0].split()),
            )
            self.forward = _forward
            return self._both_passes(engine, prepared, size)
        return losses

    def ends_group(self, iteration: int, epoch_length: int) -> bool:
        """Whether the optimizer steps in an iteration (from 1), so that no gradient is left over for the next."""
        position, size = self._group(iteration, epoch_length)
        return position == size - 1

    def _group(self, iteration: int, epoch_length: int) -> tuple[int, int]:
        """The position of an iteration (from 1) in its group of accumulated batches, and the group's size."""
        in_epoch = (iteration - 1) % epoch_length
        position = in_epoch % self.accumulation_steps
        return position, min(self.accumulation_steps, epoch_length - (in_epoch - position))

    def _update(self, engine: SupervisedTrainer) -> None:
        """Clip, and step if the gradients are finite."""
        if self.scaler.is_enabled():
            if self.clip_grad_norm is not None:
                self.scaler.unscale_(engine.optimizer)
                nn.utils.clip_grad_norm_(engine.network.parameters(), self.clip_grad_norm)
            self.scaler.step(engine.optimizer)
            self.scaler.update()
            # get_scale() would wait for the device. The scale is this small after 30 overflows in a row: a real fault.
            scale: Any = self.scaler._scale
            self.faults = torch.maximum(self.faults, (scale < _SMALLEST_SCALE).float().squeeze())
            return
        if self.clip_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(engine.network.parameters(), self.clip_grad_norm)
        else:
            gradients = [p.grad for p in engine.network.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        self.faults = _not_finite(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        _step_unless(engine.optimizer, self.faults)


def _worth_compiling(engine: SupervisedTrainer) -> bool:
    """Compiling pays on a GPU. Each gathering of sharded weights would break the program into pieces."""
    return engine.state.device.type == "cuda" and not isinstance(engine.network, FSDPModule)


def _forward(
    inferer: Callable[..., Any], network: nn.Module, loss_function: Any, prepared: tuple[Any, ...], precision: str
) -> Any:
    """What the loss function says of a prepared batch."""
    inputs, targets, args, kwargs = prepared
    with autocast(inputs.device, precision):
        output = inferer(inputs, network, *args, **kwargs)
    return loss_function(output, targets)


def _named_losses(losses: Any) -> dict[str, torch.Tensor]:
    """
    The result of a loss function, by name.

    Raises:
        InputError: if it is neither one number nor a dictionary with "loss".
    """
    named = {"loss": losses} if isinstance(losses, torch.Tensor) else losses
    loss = named.get("loss") if isinstance(named, dict) else None
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
        raise InputError(
            f"the loss function returned a {type(losses).__name__}{shape}; training needs one number: a tensor (such "
            'as a stock loss with reduction="mean"), or a dictionary that holds it as "loss"'
        )
    return named


def _not_finite(value: torch.Tensor) -> torch.Tensor:
    """1 if a scalar is NaN or infinite, otherwise 0; on its device."""
    return (~torch.isfinite(value)).float()


def _step_unless(optimizer: torch.optim.Optimizer, skipped: torch.Tensor) -> None:
    """
    Step unless `skipped` is 1. A fused optimizer reads the value on the device, as it does for torch's loss scaler. For
    any other, it is read here, which costs nothing on a CPU.
    """
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        if not skipped:
            optimizer.step()
        return
    optimizer.found_inf = skipped  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf, optimizer.grad_scale  # type: ignore[attr-defined]


class ValidationStep:
    """
    Forward without gradients. The loss is kept per image, so that its mean does not depend on the batches.

    Args:
        loss_function: with `per_image(output, targets)` -> (B, S), one column per name; or a stock loss of two tensors,
            which is called for each image separately and makes one column.
        precision: "float32", "bfloat16" or "float16".
    """

    def __init__(self, loss_function: Any, precision: str = "float32") -> None:
        self.loss_function = loss_function
        self.precision = precision

    def __call__(self, engine: SupervisedEvaluator, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """
        Validate on a batch.

        Returns:
            "per_image", the unweighted losses (B, S).
        """
        _, _, per_image = self.forward(engine, batch)
        return {"per_image": per_image}

    def forward(self, engine: SupervisedEvaluator, batch: dict[str, Any]) -> tuple[Any, Any, torch.Tensor]:
        """The network's output, the targets, and the losses (B, S) of a batch."""
        inputs, targets, args, kwargs = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        network = unwrap(engine.network).eval()
        with torch.no_grad():
            with autocast(engine.state.device, self.precision):
                output = engine.inferer(inputs, network, *args, **kwargs)
            per_image = _per_image(self.loss_function, output, targets)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output, targets, per_image


def _per_image(loss_function: Any, output: Any, targets: Any) -> torch.Tensor:
    """The losses of each image, (B, S)."""
    if hasattr(loss_function, "per_image"):
        return loss_function.per_image(output, targets)
    pairs = zip(output, targets, strict=True)
    losses = [_named_losses(loss_function(one[None], target[None]))["loss"] for one, target in pairs]
    return torch.stack([loss.reshape(1) for loss in losses])


def _without_exchange(network: nn.Module) -> AbstractContextManager[Any]:
    """Let DDP accumulate gradients locally, also under torch.compile; without DDP, do nothing."""
    network = getattr(network, "_orig_mod", network)
    return network.no_sync() if isinstance(network, nn.parallel.DistributedDataParallel) else nullcontext()
