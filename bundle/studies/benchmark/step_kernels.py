"""Kernels that an eager training step starts, counted on a CPU: every operation but views and empty tensors is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from studies.benchmark.step_cases import TrainingCase

_NONE = {"detach", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_NONE |= {"_record_function_enter_new", "_record_function_exit"}  # of the profiler
CAST = "_to_copy"


class Kernels(TorchDispatchMode):
    """Counts operations by name while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        name = func.overloadpacket.__name__
        returned = (value.alias_info for value in func._schema.returns)
        is_view = any(alias is not None and not alias.is_write for alias in returned)
        if not is_view and name not in _NONE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_kernels(case: TrainingCase) -> list[dict[str, Any]]:
    """
    Count the kernels of a step.

    The CPU's autocast leaves layer norms in the type of their input, that of CUDA makes them float32; otherwise the
    kernels are the same, up to what an operation needs more than one for.

    Args:
        case: on a CPU; its network is trained for two steps.

    Returns:
        a row for each part, and one for the whole step: "part", "kernels", and the "casts" among them.
    """
    parameters = [parameter for parameter in case.step.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True)  # as on a GPU
    state: dict[str, Any] = {}
    parts: dict[str, Callable[[], Any]] = {
        "batch and masks": lambda: state.update(batch=case.arguments()),
        "forward and loss": lambda: state.update(loss=case.step(*state["batch"])),
        "backward": lambda: state["loss"].backward(),
        "gradient norm": lambda: nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]),
        "AdamW": optimizer.step,
    }
    for _ in range(2):  # the first step also makes the optimizer's state
        optimizer.zero_grad()
        rows = [_row(part, run) for part, run in parts.items()]
    whole = {name: sum(row[name] for row in rows) for name in ("kernels", "casts")}
    return [*rows, {"part": "step", **whole}]


def _row(part: str, run: Callable[[], Any]) -> dict[str, Any]:
    with Kernels() as seen:
        run()
    return {"part": part, "kernels": seen.counts.total(), "casts": seen.counts[CAST]}
