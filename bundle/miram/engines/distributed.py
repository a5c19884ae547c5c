"""Single-process and multi-process runs: joining the processes that `torchrun` starts, and sharing work among them."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from miram.errors import InputError

T = TypeVar("T")

# How long processes wait for one that works alone, in a group of their own (gloo, on the CPU): rank 0 prepares data,
# monitors the representation, writes a report.
PATIENCE = timedelta(hours=2)
# How long an exchange of gradients may take with NCCL: a process that has died or hangs is noticed after that.
EXCHANGE = timedelta(minutes=10)


def start_distributed() -> torch.device:
    """
    Join the process group set up by `torchrun`: NCCL with GPUs, gloo without. Only rank 0 keeps logging.

    Returns:
        the device of this process.

    Raises:
        RuntimeError: if the process was not started by `torchrun`.
        InputError: if there are more processes than GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError(
            "a run with several processes must be started by torchrun: torchrun --nproc_per_node=8 -m monai.bundle run "
            "..."
        )
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {local_rank} has no GPU: there are only {torch.cuda.device_count()}; start that many "
                'processes with --nproc_per_node, or set CUDA_VISIBLE_DEVICES="" to run on the CPU'
            )
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        gpu: dict[str, Any] = {"backend": "nccl", "device_id": device, "timeout": EXCHANGE}
        cpu: dict[str, Any] = {"backend": "gloo", "timeout": PATIENCE}
        dist.init_process_group(**(gpu if device.type == "cuda" else cpu), **_fresh_store())
    if dist.get_rank() > 0:
        logging.disable(logging.WARNING)
    return device


def _fresh_store() -> dict[str, Any]:
    """
    A fresh rendezvous store for processes that torchrun has restarted on one machine; empty otherwise.

    torchrun (2.13) passes on the store of the processes that died. It still holds their addresses, and the first new
    process would read them. Restarts are counted per machine, so this cannot help with several (see docs/scale.md).
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
    """Whether torchrun started this process to replace one that died (`--max-restarts`)."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def stop_distributed(status: int = 0) -> None:
    """
    Leave the process group, all processes together: one that left early would break the others' communication.

    Args:
        status: with which the process will exit.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier(patient_group())
        dist.destroy_process_group()
        atexit.register(_end_without_teardown, status)


def _end_without_teardown(status: int) -> None:
    """
    End a run that is over before Python takes the interpreter apart; one that failed since ends as usual.

    `DistributedDataParallel` keeps gloo's threads alive after the process group is destroyed. If one of them drops a
    tensor while the interpreter is taken apart, the process aborts and the run counts as failed (pytorch pull request
    179291; here in 2 of 26 runs of eight processes on two busy cores).
    """
    atexit.unregister(_end_without_teardown)
    if hasattr(sys, "last_value"):  # Python sets it when it prints an exception that nobody caught
        return
    atexit._run_exitfuncs()  # what else is to be done at the end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def world_size() -> int:
    """The number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_batch_size(batch_size: int, accumulation_steps: int = 1) -> int:
    """Images per optimizer step over all processes; `batch_size` is per process and per batch."""
    return batch_size * accumulation_steps * world_size()


def data_parallel(network: nn.Module, device: torch.device | str) -> nn.parallel.DistributedDataParallel:
    """The network on this process's device, with gradients averaged over all processes."""
    device = torch.device(device)
    device_ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network.to(device), device_ids=device_ids)


def rank() -> int:
    """The rank of this process; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def patient_group() -> dist.ProcessGroup | None:
    """
    All processes, with gloo and a long limit: for what may have to wait for one that works alone.

    All processes call it for the first time together. None without a process group.
    """
    return _gloo_beside(dist.group.WORLD) if world_size() > 1 else None


@lru_cache(maxsize=1)
def _gloo_beside(world: object) -> dist.ProcessGroup:
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def gather_objects(value: T) -> list[T]:
    """Each process's value, in rank order; waits for all processes."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value, patient_group())
    return gathered


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' values, on the CPU; waits for all processes."""
    values = values.cpu()
    if world_size() > 1:
        dist.all_reduce(values, group=patient_group())
    return values


def broadcast_weights(module: nn.Module) -> None:
    """Give all processes the first one's weights of a module; the network's group, on the weights' device."""
    if world_size() > 1:
        for weight in module.parameters():
            dist.broadcast(weight.detach(), src=0)


def own_share(num_samples: int) -> range:
    """
    The sample indices of this process, assigned in turn: a sampler for a loader that reads each sample once.

    Raises:
        InputError: if a process would have none, which would make the run hang.
    """
    if 0 < num_samples < world_size():
        raise InputError(
            f"there are {num_samples} images, fewer than the {world_size()} processes: start fewer processes"
        )
    return range(rank(), num_samples, world_size())


def on_main_process_first(work: Callable[[], object] | None) -> None:
    """
    Do some work on rank 0 while the other processes wait, such as preparing data on a shared disk.

    Args:
        work: the work; None does nothing.
    """
    if work is None:
        return
    group = patient_group()  # before the work: to make it, all must come
    if is_main_process():
        work()
    if group is not None:
        dist.barrier(group)


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of `DistributedDataParallel` and `torch.compile`."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, nn.parallel.DistributedDataParallel):
            inner = network.module
        if inner is None:
            return network
        network = inner
