"""What the default configuration may cost, in exact counts for ViT-B/16 at 224 pixels: no timing is involved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.step_cost import StepCost, step_cost, training_step_cost
from studies.benchmark.step_kernels import CAST, Kernels
from studies.benchmark.variants import make_variants

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def encoder() -> ViTEncoder:
    return ViTEncoder(in_channels=1, img_size=224, patch_size=16)


@pytest.fixture(scope="module")
def peer() -> StepCost:
    """MAE as `transformers` has it, in bf16."""
    transformers = pytest.importorskip("transformers", reason="transformers (extra `test`) is not installed")

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = transformers.ViTMAEConfig(num_channels=1, norm_pix_loss=True, mask_ratio=0.75)
            self.network = transformers.ViTMAEForPreTraining(config)

        def forward(self, image, noise):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.network(image, noise=noise).loss

    return step_cost(Step(), lambda size: (torch.zeros(size, 1, 224, 224), torch.zeros(size, 196)))


def decoders_of(config: str) -> list[dict]:
    return yaml.safe_load((CONFIGS / config).read_text())["decoders"]


def cost_of(network: MIRAM) -> StepCost:
    size = round(224 * max(network.scales))
    return training_step_cost(
        network, MultiScaleReconstructionLoss((224, 224), (16, 16), network.scales), (1, size, size)
    )


def test_one_scale_costs_no_more_than_the_peer(encoder, peer):
    cost = cost_of(MIRAM(encoder, decoders_of("mae.yaml")))
    assert cost.flops <= peer.flops
    assert cost.saved_bytes <= peer.saved_bytes


def test_the_two_scales_of_the_default_cost_less_than_the_peers_one(encoder, peer):
    network = MIRAM(encoder, decoders_of("pretrain.yaml"))
    cost = cost_of(network)
    assert network.scales == [1, 2]
    assert cost.flops <= 0.65 * peer.flops
    assert cost.saved_bytes <= 0.70 * peer.saved_bytes


def test_three_scales_cost_less_than_the_peers_one(encoder, peer):
    cost = cost_of(MIRAM(encoder, make_variants(encoder)["three_scales"]))
    assert cost.flops <= 0.75 * peer.flops
    assert cost.saved_bytes <= 0.75 * peer.saved_bytes


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("config", ["pretrain.yaml", "mae.yaml", "paper.yaml"])
def test_ddp_needs_no_search_for_unused_parameters(one_process, config):
    """A parameter without a gradient would be an error at the second step."""
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    decoders = [{**decoder, **sizes} for decoder in decoders_of(config)]
    encoder = ViTEncoder(1, 64, 8, 24, 48, 2, 2)
    network = DistributedDataParallel(MIRAM(encoder, decoders))
    keep = torch.arange(16).repeat(2, 1)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(torch.randn(2, 1, 64, 64), keep)
        sum(prediction.float().square().mean() for prediction in output["predictions"]).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("config", ["pretrain.yaml", "mae.yaml", "paper.yaml"])
def test_the_configs_compile_into_one_graph(config):
    torch.compiler.reset()  # the graphs of other tests count towards a limit
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    network = MIRAM(ViTEncoder(1, 64, 8, 24, 48, 1, 2), [{**decoder, **sizes} for decoder in decoders_of(config)])
    image, keep = torch.randn(2, 1, 64, 64), torch.arange(16).repeat(2, 1)
    expected = network(image, keep)["predictions"]
    got = torch.compile(network, backend="eager", fullgraph=True)(image, keep)["predictions"]
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_block_uses_the_fused_attention_and_nothing_is_cast_twice(tiny_encoder):
    """bf16 by autocast: the weights and biases of 33 layers are cast, what 15 norms return, and 11 other tensors."""
    small = {"hidden_size": 16, "num_layers": 2, "num_heads": 2}
    network = MIRAM(tiny_encoder, [{"scale": 1, **small}, {"scale": 2, "kind": "cross_attention", **small}])
    keep = torch.arange(4).expand(2, 4)
    with Kernels() as seen, torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.rand(2, 1, 32, 32), keep)
    blocks = len(tiny_encoder.blocks) + 2 + 2
    assert seen.counts["_scaled_dot_product_flash_attention_for_cpu"] == blocks
    assert not any("softmax" in name for name in seen.counts)
    assert seen.counts[CAST] <= 2 * 33 + 15 + 11


def test_the_gradients_of_queries_keys_and_values_are_put_together_at_once(tiny_encoder):
    """Indexed one by one, each would have a gradient of all three, mostly zeros, and these would be added."""
    tokens = tiny_encoder(torch.rand(2, 1, 32, 32))
    with Kernels() as seen:
        tokens.sum().backward()
    assert seen.counts["stack"] == len(tiny_encoder.blocks)
    assert not seen.counts["select_backward"]
