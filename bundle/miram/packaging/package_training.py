"""How training a packaged bundle differs from ours: it starts from the bundle's weights and replaces them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from torch import nn

from miram.engines.distributed import is_main_process, was_restarted
from miram.files import atomic_write
from miram.handlers.save_weights import BestModelHandler
from miram.packaging.weights import load_weights, saved_bytes
from miram.weights.classifier import corrected_state

logger = logging.getLogger(__name__)


def start_from(
    network: nn.Module, path: str | os.PathLike[str] | None, output_dir: str | os.PathLike[str], resume: bool = True
) -> None:
    """
    Load the initial weights, and freeze parameters that training cannot reach.

    The best epoch replaces the bundle's weights. So the run keeps a copy of its initial weights: if it is killed before
    its first checkpoint, it starts from them again.

    Args:
        network: the network as the bundle defines it, changed in place.
        path: a bundle's `model.pt`; None or "none" starts from random weights.
        output_dir: where the copy, `start.pt`, is written.
        resume: start from the copy if it exists; processes that torchrun has restarted always do.
    """
    kept = Path(output_dir) / "start.pt"
    if (resume or was_restarted()) and kept.is_file():
        logger.info("starting from %s, the initial weights of this run; --resume False starts from %s", kept, path)
        path = kept
    load_weights(network, path)
    if is_main_process():
        write_weights(network, kept)
    for name, parameter in network.named_parameters():
        if ".norm_cross_attn." in name:  # not used by MONAI's blocks: DDP would wait for its gradient forever
            parameter.requires_grad_(False)


def write_weights(network: nn.Module, path: Path, prior_correction: np.ndarray | None = None) -> None:
    """Write only the weights, as in a bundle's `model.pt`, with the head's bias corrected if a correction is given."""
    head = "fc" if hasattr(network, "fc") else "classification_head"
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(saved_bytes(corrected_state(network, prior_correction, head)))


@dataclass(eq=False, kw_only=True)
class PackagedModelHandler(BestModelHandler):
    """After each validation with the best key metric so far, write only the weights, as in a bundle's `model.pt`."""

    content: Callable[[], dict[str, Any]] = dict  # of the file that is not written
    network: nn.Module
    # (K,) added to the bias of its head in the file, see :func:`miram.inference.calibrated.prior_correction`
    prior_correction: np.ndarray

    def _write(self, evaluator: Engine) -> None:
        write_weights(self.network, self.path, self.prior_correction)
