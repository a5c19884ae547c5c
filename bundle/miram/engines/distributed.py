"""One process or several: what `torchrun` started, and which of them we are."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from miram.errors import InputError

T = TypeVar("T")

# How long processes wait for one that works alone: rank 0 prepares data, looks at the representation, writes a report.
# NCCL's own limit is 10 minutes, after which it ends the run.
PATIENCE = timedelta(hours=2)


def start_distributed() -> torch.device:
    """
    Join the process group that `torchrun` announces: NCCL with GPUs, gloo without. Only rank 0 goes on logging.

    Returns:
        the device of this process.

    Raises:
        RuntimeError: if the process was not started by `torchrun`.
        InputError: if there are more processes than GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError(
            "several processes are started by torchrun: torchrun --nproc_per_node=8 -m monai.bundle run ..."
        )
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {local_rank} has no GPU: there are {torch.cuda.device_count()}; start as many processes with "
                '--nproc_per_node, or set CUDA_VISIBLE_DEVICES="" for a run on the CPU'
            )
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE, **_fresh_store())
    if dist.get_rank() > 0:
        logging.disable(logging.WARNING)
    return device


def _fresh_store() -> dict[str, Any]:
    """
    Where processes that torchrun has started again on one machine find each other; nothing otherwise.

    torchrun (2.13) gives them the store of those that died, in which their addresses still stand: who comes first would
    read them. Counts of restarts are of a machine, so with several machines this cannot help (see docs/scale.md).
    """
    environment = os.environ
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (was_restarted() and shared and environment["LOCAL_WORLD_SIZE"] == environment["WORLD_SIZE"]):
        return {}
    store = dist.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False)
    return {
        "store": dist.PrefixStore(f"restart_{_restarts()}", store),
        "rank": int(environment["RANK"]),
        "world_size": int(environment["WORLD_SIZE"]),
    }


def was_restarted() -> bool:
    """Whether torchrun started this process in the place of one that died (`--max-restarts`)."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def stop_distributed() -> None:
    """Leave the process group, all together: one that left first would break what the others still exchange."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_batch_size(batch_size: int, accumulation_steps: int = 1) -> int:
    """Images between two optimizer steps, of all processes: `batch_size` is that of one process and one batch."""
    return batch_size * accumulation_steps * world_size()


def data_parallel(network: nn.Module, device: torch.device | str) -> nn.parallel.DistributedDataParallel:
    """The network on this process's device, with gradients averaged over all processes."""
    device = torch.device(device)
    device_ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network.to(device), device_ids=device_ids)


def rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def gather_objects(value: T) -> list[T]:
    """What each process has, in the order of the processes, waiting for them."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def own_share(num_samples: int) -> range:
    """
    The indices of this process, dealt out in turn: a sampler for a loader that reads each sample once.

    Raises:
        InputError: if a process would have none, and wait for the others in vain.
    """
    if 0 < num_samples < world_size():
        raise InputError(f"there are {num_samples} images, fewer than the {world_size()} processes: start fewer")
    return range(rank(), num_samples, world_size())


def on_main_process_first(work: Callable[[], object] | None) -> None:
    """
    Let rank 0 do some work while the others wait for it, such as preparing data on a disk that all share.

    Args:
        work: what to do; None does nothing.
    """
    if work is None:
        return
    if is_main_process():
        work()
    if world_size() > 1:
        dist.barrier()


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without what `DistributedDataParallel` or `torch.compile` put around it."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, nn.parallel.DistributedDataParallel):
            inner = network.module
        if inner is None:
            return network
        network = inner
