"""Whether a device computes what a CPU computes, and whether a training step never waits for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from miram.data.datalist import load_split
from miram.engines.pretraining import PreparePretrainingBatch
from miram.engines.steps import TrainingStep
from miram.loading.packed import open_packed, pack_folder
from miram.loading.packed_loader import PackedLoader
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.gpu_check.settings import CheckSettings, Record, data_of

STEPS = 3
CPU = torch.device("cpu")
# Float32 without TF32 sums in another order only. bf16 has 8 bits; the loss is a mean over some thousand pixels.
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2}


def check_agreement(settings: CheckSettings, record: Record, seconds: float) -> None:
    """Compare losses in each precision, masks and batches, and forbid a step to wait for the device."""
    device, network = settings.device, small_network()
    with _without_tf32():
        for precision, tolerance in TOLERANCES.items():
            expected, found = (train(copy.deepcopy(network), where, precision)[0] for where in (CPU, device))
            difference = max(abs(one / other - 1) for one, other in zip(found, expected, strict=True))
            record({"check": f"losses in {precision}", "difference": difference, "passed": difference <= tolerance})
    record({"check": "masks", "passed": _same_masks(device)})
    record({"check": "batches of the packed store", "passed": _same_batches(settings)})
    record({"check": "attention in bfloat16 by the flash kernel", **_flash(device)})
    if device.type == "cuda":
        record({"check": "a step never waits for the device", **_waits(network, device)})


def small_network() -> MIRAM:
    """32 x 32 pixels in patches of 8, two blocks of width 24, decoders at 1x and 2x."""
    torch.manual_seed(0)
    encoder = ViTEncoder(1, 32, 8, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2)
    return MIRAM(encoder, [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)])


def train(
    network: MIRAM, device: torch.device, precision: str = "float32", watch: bool = False
) -> tuple[list[float], torch.Tensor]:
    """
    Three training steps on batches that are the same everywhere.

    Args:
        network: see :func:`small_network`; it is changed.
        device: where it is trained.
        watch: make CUDA raise an error if a step after the first waits for the device.

    Returns:
        the losses of the steps, and all weights (N,) on the CPU.
    """
    network = network.to(device)
    # not Adam: it divides gradients that are rounding alone, as of the keys' biases, by their own size
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=device.type == "cuda")
    engine: Any = SimpleNamespace(
        prepare_batch=PreparePretrainingBatch(RandomMasking(0.75), (32, 32), 16),
        state=SimpleNamespace(device=device, iteration=0, epoch_length=STEPS),
        non_blocking=False,
        network=network,
        optimizer=optimizer,
        loss_function=MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2]),
        inferer=lambda image, net, *args: net(image, *args),
        fire_event=lambda event: None,
    )
    step, losses = TrainingStep(precision, clip_grad_norm=1.0), []
    generator = torch.Generator().manual_seed(0)
    for engine.state.iteration in range(1, STEPS + 1):
        label = torch.randn(8, 1, 64, 64, generator=generator).to(device)
        batch = {"label": label, "index": torch.arange(8), "epoch": torch.full((8,), engine.state.iteration)}
        if watch and engine.state.iteration > 1:
            torch.cuda.set_sync_debug_mode("error")
        try:
            losses.append(step(engine, batch)[0]["loss"])
        finally:
            if watch:
                torch.cuda.set_sync_debug_mode("default")
        assert engine.state.skipped.item() == 0
    return [loss.item() for loss in losses], torch.cat([p.detach().cpu().flatten() for p in network.parameters()])


def _waits(network: MIRAM, device: torch.device) -> dict[str, Any]:
    try:
        train(copy.deepcopy(network), device, "bfloat16", watch=True)
    except RuntimeError as error:
        return {"passed": False, "reason": str(error).splitlines()[0]}
    return {"passed": True}


def _flash(device: torch.device) -> dict[str, Any]:
    """Whether torch has a flash kernel for the attention of our blocks, with the heads of 64 that ViTs have."""
    encoder = ViTEncoder(1, 64, 16, hidden_size=128, mlp_dim=128, num_layers=1, num_heads=2).to(device)
    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast(device.type, torch.bfloat16):
            encoder(torch.randn(2, 1, 64, 64, device=device)).float().sum().backward()
    except RuntimeError as error:
        return {"passed": False, "reason": str(error).splitlines()[0]}
    return {"passed": True}


def _same_masks(device: torch.device) -> bool:
    masking, index = RandomMasking(0.75), torch.arange(64)
    return torch.equal(masking(3, index, 196, device).cpu(), masking(3, index, 196, CPU))


def _same_batches(settings: CheckSettings) -> bool:
    """Windows, flips and turns of an epoch are the same; the scaling may round differently by one step of a float32."""
    folder, side = data_of(settings), 2 * settings.sizes.image_size
    pack_folder(folder)
    items, limits = load_split(folder, "training"), {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    batches = []
    for device in (CPU, settings.device):
        loader = PackedLoader(open_packed(folder), items, (side, side), min(8, len(items)), limits, True, device)
        loader.sampler.set_epoch(1)
        batches.append(next(iter(loader))["label"].cpu())
    return bool((batches[0] - batches[1]).abs().max() <= 1e-6)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Matrix products of float32 in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
