"""Pictures of reconstructions while a network trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data.utils import list_data_collate

from miram.engines.distributed import is_main_process, unwrap
from miram.engines.pretraining import PreparePretrainingBatch
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import hidden_mask
from miram.visualize.figures import Painter
from miram.visualize.reconstructions import plot_panel, reconstruction_columns


@dataclass(eq=False)
class ReconstructionHandler:
    """Draw a few images, what the encoder sees of them, and their reconstructions: `reconstructions_<epoch>.png`."""

    output_dir: Path  # the folder of the run
    network: torch.nn.Module
    dataset: Sequence[Any]  # the validation images, or the training images if there are none
    prepare_batch: PreparePretrainingBatch  # draws the masks
    loss_function: MultiScaleReconstructionLoss  # holds the scales' sizes and the units of predictions
    device: torch.device  # where the network is
    num_images: int = 6  # rows of the picture, taken evenly from the data set; 0 draws none
    interval: int = 1  # epochs between two pictures; the last epoch always has one

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.num_images = min(self.num_images, len(self.dataset))
        self.painter = Painter()

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.draw)
        engine.add_event_handler(Events.COMPLETED, self.painter.finish)

    @torch.no_grad()
    def draw(self, engine: Engine) -> None:
        """Draw the picture, if one is due in this epoch."""
        epoch, last = engine.state.epoch, engine.state.max_epochs
        due = epoch % self.interval == 0 or epoch == last
        if not (due and self.num_images and is_main_process()):
            return
        step = max(len(self.dataset) // self.num_images, 1)
        batch = list_data_collate([self.dataset[index * step] for index in range(self.num_images)])
        image, label, (keep,), _ = self.prepare_batch(batch, self.device)
        image, label, keep = (values[: self.num_images] for values in (image, label, keep))  # one view of each image
        network = unwrap(self.network).eval()
        columns = reconstruction_columns(
            self.loss_function, image, label, network(image, keep), hidden_mask(keep, self.prepare_batch.num_tokens)
        )
        note = "Hidden patches are predicted; visible ones are copied from the target."
        if self.loss_function.normalize_targets:
            note += (
                " Predictions are un-normalised with each TARGET patch's mean and deviation, so they look better than "
                "they are."
            )
        path = self.output_dir / f"reconstructions_{epoch:04d}.png"
        self.painter.draw(plot_panel, columns, path, f"epoch {epoch}", note)
