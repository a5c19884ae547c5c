"""In a process group of this process alone, or of two; whole runs are in tests/configs/test_scale_out.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from miram.engines.sharding import gather_weights, load_whole_state, release_weights, shard, whole_state
from miram.engines.steps import _step_unless
from miram.errors import InputError
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def make_network() -> MIRAM:
    torch.manual_seed(0)
    encoder = ViTEncoder(1, 32, 8, 24, 48, 2, 2)
    return MIRAM(encoder, [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)])


def make_optimizer(network):
    return torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-3)


def batch():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 1, 32, 32, generator=generator)
    return image, torch.stack([torch.randperm(16, generator=generator)[:4] for _ in range(2)])


def train(network, optimizer, steps=2):
    """Losses of a few steps on the same batch."""
    image, keep = batch()
    losses = []
    for _ in range(steps):
        loss = sum(prediction.square().mean() for prediction in network(image, keep)["predictions"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_each_block_is_a_part_of_its_own_and_training_is_unchanged(one_process):
    plain, sharded = make_network(), shard(make_network())
    assert sum(isinstance(module, FSDPModule) for module in sharded.modules()) == 2 + 1 + 1 + 1
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    assert train(sharded, make_optimizer(sharded), 3) == pytest.approx(train(plain, make_optimizer(plain), 3), rel=1e-6)


def test_a_whole_state_is_that_of_a_plain_run_and_is_gone_on_from_with_or_without_sharding(one_process, tmp_path):
    plain, sharded = make_network(), shard(make_network())
    optimizers = [make_optimizer(plain), make_optimizer(sharded)]
    train(plain, optimizers[0])
    train(sharded, optimizers[1])
    states = [whole_state(sharded), whole_state(optimizers[1])]
    assert states[0].keys() == plain.state_dict().keys()
    assert not any(isinstance(value, DTensor) for value in states[0].values())
    torch.save(states, tmp_path / "states.pt")
    expected = optimizers[0].state_dict()
    assert states[1]["param_groups"] == expected["param_groups"]
    for index, values in expected["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(states[1]["state"][index][name], value)
    rest = train(sharded, optimizers[1])
    for network in (make_network(), shard(make_network())):
        optimizer = make_optimizer(network)
        saved = torch.load(tmp_path / "states.pt", weights_only=True)
        for part, state in zip((network, optimizer), saved, strict=True):
            load_whole_state(part, state)
        torch.testing.assert_close(train(network, optimizer), rest, rtol=1e-6, atol=0)


def learn_in_bfloat16(network, share: slice) -> dict:
    """Three steps on a share of four images; the types in which a block's weights are gathered and kept."""
    seen = []
    layer = network.encoder.blocks[0].mlp.linear1
    layer.register_forward_hook(lambda module, args, output: seen.append(module.weight.dtype))
    optimizer = make_optimizer(network)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 1, 32, 32, generator=generator)[share]
    keep = torch.stack([torch.randperm(16, generator=generator)[:4] for _ in range(4)])[share]
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(image, keep)
        loss = sum(prediction.float().square().mean() for prediction in output["predictions"])
        optimizer.zero_grad()
        loss.backward()
        kept = {layer.weight.dtype, layer.weight.grad.dtype}
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "gathered": set(seen), "kept": kept, "state": whole_state(network)}


def shard_and_learn(rank: int, folder: str) -> None:
    """What each of two processes does."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = learn_in_bfloat16(shard(make_network(), precision="bfloat16"), slice(rank, None, 2))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_in_bfloat16_two_processes_gather_blocks_in_it_and_learn_what_one_learns_by_autocast(tmp_path):
    """
    A block gets its input in bfloat16, too, which autocast alone leaves in float32: 8 bits, so to 1 %. Adam's steps are
    of 1e-3, whatever small gradients are, and where the sign of one differs a weight differs by twice that in each.
    """
    mp.spawn(shard_and_learn, (str(tmp_path),), 2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert (one["gathered"], one["kept"]) == ({torch.bfloat16}, {torch.float32})
    expected = learn_in_bfloat16(make_network(), slice(None))
    mean = [(first + second) / 2 for first, second in zip(one["losses"], two["losses"], strict=True)]
    assert mean == pytest.approx(expected["losses"], rel=0.01)
    assert one["state"].keys() == expected["state"].keys()
    for name, value in one["state"].items():
        torch.testing.assert_close(value, expected["state"][name], atol=3 * 2e-3, rtol=0, msg=name)


def test_between_epochs_blocks_compute_in_bfloat16_without_autocast(one_process):
    """The monitors and pictures run the network without it."""
    network, plain = shard(make_network(), precision="bfloat16"), make_network()
    gather_weights(network)
    image, keep = batch()
    with torch.no_grad():
        found, expected = (one(image, keep)["predictions"][0] for one in (network, plain))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < 0.02
    assert network.state_dict()["encoder.blocks.0.mlp.linear1.weight"].dtype == torch.float32


def test_between_epochs_weights_are_whole_and_then_cut_up_again(one_process):
    network = shard(make_network())
    optimizer = make_optimizer(network)
    train(network, optimizer)
    gather_weights(network)
    assert not any(isinstance(parameter, DTensor) for parameter in network.parameters())
    network.encoder(torch.zeros(1, 1, 32, 32))
    assert not any(isinstance(parameter, DTensor) for parameter in network.parameters())  # still, after a forward pass
    release_weights(network)
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())
    train(network, optimizer)
    blocks = list(network.encoder.blocks)
    assert all(isinstance(parameter, DTensor) for block in blocks for parameter in block.parameters())


def test_an_epoch_that_is_concluded_first_of_all_runs_the_encoder_before_the_network(one_process):
    """A run that died while an epoch was concluded goes on with the monitors."""
    network = shard(make_network())
    gather_weights(network)
    with torch.no_grad():
        network.encoder(torch.zeros(1, 1, 32, 32))
    release_weights(network)
    plain = make_network()
    assert train(network, make_optimizer(network)) == pytest.approx(train(plain, make_optimizer(plain)), rel=1e-6)


def test_a_backbone_is_whole(one_process):
    network, plain = shard(make_network()), make_network()
    gather_weights(network)
    backbone = backbone_from_encoder(network.encoder, {}, {}, whole_state(network.encoder))
    expected = backbone_from_encoder(plain.encoder, {}, {})
    assert torch.equal(backbone["cls_token"], expected["cls_token"])
    assert all(torch.equal(backbone["state_dict"][key], value) for key, value in expected["state_dict"].items())


def test_without_sharding_nothing_is_gathered():
    network = make_network()
    gather_weights(network)
    release_weights(network)
    state = whole_state(network)
    assert all(state[key] is value or torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_an_optimizers_options_are_those_of_the_config_its_rate_that_of_the_state():
    network = make_network()
    state = whole_state(torch.optim.AdamW(network.parameters(), lr=0.5, weight_decay=0.1, fused=False))
    other = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.2, fused=True)
    load_whole_state(other, state)
    options = other.param_groups[0]
    assert (options["lr"], options["weight_decay"], options["fused"]) == (0.5, 0.2, True)


def test_what_cannot_be_sharded_is_refused(one_process):
    with pytest.raises(InputError, match="sharding needs bfloat16 or float32"):
        shard(make_network(), precision="float16")
    with pytest.raises(InputError, match="shard_size 8 does not divide the 1 processes"):
        shard(make_network(), shard_size=8)


def test_a_fused_optimizer_leaves_out_a_step_that_is_not_finite(one_process):
    """As on a GPU, where the flag is read on the device."""
    network = shard(make_network())
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-3, fused=True)
    sum(prediction.square().mean() for prediction in network(*batch())["predictions"]).backward()
    before = {name: value.full_tensor().clone() for name, value in network.state_dict().items()}
    _step_unless(optimizer, torch.ones(()))
    assert all(torch.equal(value.full_tensor(), before[name]) for name, value in network.state_dict().items())
    _step_unless(optimizer, torch.zeros(()))
    key = "encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(network.state_dict()[key].full_tensor(), before[key])
