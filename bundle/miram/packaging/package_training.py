"""What a packaged bundle's training does otherwise than ours: it starts from the bundle's weights and replaces them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from ignite.engine import Engine
from torch import nn

from miram.engines.distributed import is_main_process, was_restarted
from miram.files import atomic_write
from miram.handlers.save_best_model import BestModelHandler
from miram.networks.classifier import corrected_state
from miram.packaging.weights import load_weights, saved_bytes

logger = logging.getLogger(__name__)


def start_from(
    network: nn.Module, path: str | os.PathLike[str] | None, output_dir: str | os.PathLike[str], resume: bool = True
) -> None:
    """
    Load what training starts from, and leave out what it cannot reach.

    The best epoch replaces the bundle's weights. So a copy of what the run began with is kept: one that is killed
    before its first checkpoint begins with the same weights again.

    Args:
        network: as the bundle defines it, changed in place.
        path: of a bundle's `model.pt`; None or "none" starts from random weights.
        output_dir: gets the copy, `start.pt`.
        resume: begin with the copy if it is there, as processes do that torchrun has started again.
    """
    kept = Path(output_dir) / "start.pt"
    if (resume or was_restarted()) and kept.is_file():
        logger.info("beginning with %s, as the first start of this run; --resume False begins with %s", kept, path)
        path = kept
    load_weights(network, path)
    if is_main_process():
        write_weights(network, kept)
    for name, parameter in network.named_parameters():
        if ".norm_cross_attn." in name:  # MONAI's blocks have it and never use it: DDP would wait for its gradient
            parameter.requires_grad_(False)


def write_weights(network: nn.Module, path: Path, prior_correction: np.ndarray | None = None) -> None:
    """Write the weights alone, as a bundle's `model.pt` is; the head's bias corrected, if that is given."""
    head = "fc" if hasattr(network, "fc") else "classification_head"
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(saved_bytes(corrected_state(network, prior_correction, head)))


class PackagedModelHandler(BestModelHandler):
    """
    After each validation whose key metric is the best so far, write the weights alone, as a bundle's `model.pt` is.

    Args:
        path: the file.
        network: whose weights to keep.
        prior_correction: (K,) added to the bias of its head in the file, see
            :func:`miram.inference.calibrated.prior_correction`.
        evaluator: of validation.
        key_metric: name of one of its metrics, higher is better.
        patience: validations in a row without a better one after which training stops; None never stops.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        prior_correction: np.ndarray,
        evaluator: Engine,
        key_metric: str = "val_auc",
        patience: int | None = None,
    ) -> None:
        super().__init__(path, dict, evaluator, key_metric, patience)
        self.network = network
        self.prior_correction = prior_correction

    def _write(self, evaluator: Engine) -> None:
        write_weights(self.network, self.path, self.prior_correction)
