"""What a run computes on, and in which precision, unless the user says otherwise."""

from __future__ import annotations

import warnings

import torch
from monai.data import set_track_meta
from monai.utils import set_determinism


def best_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_cuda(device: torch.device | str) -> bool:
    """Whether a device, which the command line gives as text, is a GPU."""
    return torch.device(device).type == "cuda"


def best_precision(device: torch.device | str) -> str:
    """bfloat16 on GPUs that compute in it, float16 on older ones (which scales the loss), float32 on a CPU."""
    if not is_cuda(device):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def start_run(device: torch.device | str, seed: int | None = None, track_meta: bool = False) -> None:
    """
    What every workflow does before its own work: call this in `initialize`.

    Args:
        device: of the run. With several processes, making this argument is where they find each other.
        seed: of initial weights and of torch's generators; None leaves them alone.
        track_meta: whether MONAI keeps where an image came from, for workflows that write onto its grid.
    """
    torch.device(device)
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # of MONAI's sine-cosine positions
    set_track_meta(track_meta)
    if seed is not None:
        set_determinism(seed=seed, use_deterministic_algorithms=None)
