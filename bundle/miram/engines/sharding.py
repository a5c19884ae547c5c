"""
FSDP2: weights, gradients and optimizer state sharded over the processes, for encoders that outgrow one GPU.

Files are the same as without sharding: a state is gathered before it is written, and sharded again when it is read. So
a run can resume with another number of processes, or without sharding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from miram.engines.distributed import is_main_process
from miram.errors import InputError


def shard(network: nn.Module, shard_size: int | None = None, precision: str = "float32") -> nn.Module:
    """
    Shard a network in place: each transformer block on its own, and everything else together.

    A block's weights are gathered just before it computes, and freed afterwards. Gradients are averaged as in DDP.
    With bfloat16 a block's weights travel in it, half the bytes, and the block computes in it, without casts of its
    own. The shares that are optimised and saved, and the average of the gradients, stay float32.

    Args:
        network: on its device, with the same weights in every process.
        shard_size: how many processes hold one copy together; None is all of them. With 8 on nodes of 8 GPUs, weights
            travel within a node, and only gradients between nodes (HSDP).
        precision: of the training step, "float32" or "bfloat16".

    Returns:
        the network.

    Raises:
        InputError: if the number of processes is not a multiple of `shard_size`, or the precision is float16.
    """
    if precision == "float16":
        raise InputError(
            "sharding needs bfloat16 or float32: with float16 each process would skip overflowed steps on its own"
        )
    count = dist.get_world_size()
    size = shard_size or count
    if count % size:
        raise InputError(f"shard_size {size} does not divide the {count} processes: choose one that does, or null")
    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (count // size, size), mesh_dim_names=("replicate", "shard"))
    mesh = mesh["shard"] if size == count else mesh
    lists = [module for name, module in network.named_modules() if name.endswith("blocks")]
    policy = _policy(precision)
    parts = [fully_shard(block, mesh=mesh, mp_policy=policy) for module in lists for block in module.children()]
    parts = [fully_shard(network, mesh=mesh), *parts]
    # While a part computes its gradients, the weights of the part before it are gathered. By default FSDP takes the
    # order from the last forward passes, but one process alone runs some between epochs, so its order would differ.
    for before, part in zip([parts[-1], *parts], parts, strict=False):
        part.set_modules_to_backward_prefetch([before])
    # FSDP takes the module that runs first as the root, which may be the encoder alone.
    parts[0]._get_fsdp_state()._lazy_init()
    return network


def _policy(precision: str) -> MixedPrecisionPolicy:
    """Of blocks. Their outputs are float32, so that the rest runs with and without autocast."""
    if precision == "float32":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)


def gather_weights(network: nn.Module) -> None:
    """
    Let each process hold all weights until :func:`release_weights`, so that it can run the network without the others.

    All processes call it together. Without sharding it does nothing.
    """
    for module in _sharded(network):
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)


def release_weights(network: nn.Module) -> None:
    """Let each process keep only its share of the weights."""
    for module in _sharded(network):
        module.reshard()
        module.set_reshard_after_forward(module is not network, recurse=False)


class ShardingHandler:
    """
    Let each process hold all weights from the end of an epoch to the start of the next.

    In between, processes run the network on their own: their shares of the validation images differ in size, and one
    process alone draws pictures. A network that is not sharded (:func:`shard`) is left as it is.

    Args:
        network: the network that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before handlers that run the network at the end of an epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: release_weights(self.network))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: gather_weights(self.network))


def whole_state(part: Any) -> dict[str, Any]:
    """
    The state of a network, an optimizer or another part of a run, as it would be without sharding.

    All processes call it together. Gathered tensors are on the CPU, in the first process only. In the others they are
    None, since a full copy per process could fill a machine's memory.

    Args:
        part: has `state_dict`.
    """
    return _gathered(part.state_dict())


def load_whole_state(part: Any, state: Mapping[str, Any]) -> None:
    """
    Load a whole state; each process keeps its share of what is sharded.

    Of an optimizer's options, only the learning rate is loaded. The others, such as the weight decay or whether it is
    fused, are those of this run's config.

    Args:
        part: a network, an optimizer, or another part of a run with `load_state_dict`.
        state: what :func:`whole_state` returned.
    """
    if isinstance(part, Optimizer):
        parameters = [parameter for group in part.param_groups for parameter in group["params"]]
        shares = {
            index: {name: _share(value, parameters[index]) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        state = {**state, "state": shares, "param_groups": _own_groups(part, state["param_groups"])}
    elif isinstance(part, nn.Module):
        own = part.state_dict()
        state = {name: _share(value, own.get(name)) for name, value in state.items()}
    part.load_state_dict(state)


def _own_groups(optimizer: Optimizer, saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups of a saved state with the optimizer's own options."""
    own = (
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    )
    return [group | options for group, options in zip(saved, own, strict=True)]


def _sharded(network: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))


def _gathered(value: Any) -> Any:
    """A nested state with whole tensors."""
    if isinstance(value, DTensor):
        whole = value.full_tensor().detach()
        return whole.cpu() if is_main_process() else None
    if isinstance(value, dict):
        return {name: _gathered(entry) for name, entry in value.items()}
    return value


def _share(value: Any, like: torch.Tensor | None) -> Any:
    """This process's share of a tensor, sharded like another; one of another shape, such as a count, stays whole."""
    if isinstance(value, DTensor):  # it is a share already
        return value
    if not (isinstance(like, DTensor) and isinstance(value, torch.Tensor) and value.shape == like.shape):
        return value
    # each process has the whole tensor: there is nothing to send
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
