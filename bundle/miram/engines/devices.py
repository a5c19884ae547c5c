"""The default device and precision of a run."""

from __future__ import annotations

import os
import warnings

import torch
from monai.data import set_track_meta
from monai.utils import set_determinism

from miram.engines.distributed import is_main_process, world_size
from miram.errors import InputError
from miram.files import claim_folder


def best_device() -> torch.device:
    """The first GPU, or the CPU if there is no GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_cuda(device: torch.device | str) -> bool:
    """Whether a device is a GPU; the command line passes devices as text."""
    return torch.device(device).type == "cuda"


def best_precision(device: torch.device | str) -> str:
    """bfloat16 on GPUs that support it, float16 (with loss scaling) on older ones, float32 on a CPU."""
    if not is_cuda(device):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def start_run(
    device: torch.device | str,
    seed: int | None = None,
    track_meta: bool = False,
    output_dir: str | os.PathLike[str] | None = None,
) -> None:
    """
    Do what every workflow does first. Call this in `initialize`.

    Args:
        device: of the run. With several processes, evaluating this argument makes them join their process group.
        seed: for the initial weights and torch's generators; None leaves the generators alone.
        track_meta: whether MONAI keeps each image's metadata, for workflows that write onto the image's grid.
        output_dir: of the run, which no other run may write to meanwhile.

    Raises:
        InputError: if torchrun started several processes that have not joined: each would do the whole run, and write
            the same files. Or if another run is writing to output_dir.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1
    if processes > 1 and world_size() == 1:
        raise InputError(
            f"torchrun started {processes} processes, but this config is for one: put configs/multi_gpu.yaml behind "
            "pretrain.yaml or finetune.yaml, and start other configs without torchrun"
        )
    if output_dir is not None and is_main_process():
        claim_folder(output_dir)
    if is_cuda(device):
        torch.set_float32_matmul_precision("high")  # products of what stays float32 in TF32
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # from MONAI's sine-cosine position embedding
    set_track_meta(track_meta)
    if seed is not None:
        set_determinism(seed=seed, use_deterministic_algorithms=None)
