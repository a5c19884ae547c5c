"""Writing the encoder to a file that other projects can use."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from miram.engines.distributed import is_main_process
from miram.engines.sharding import whole_state
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, save_backbone

logger = logging.getLogger(__name__)


class BackboneHandler:
    """
    Write the encoder as `backbone.pt` every few epochs and at the end.

    Args:
        path: the file.
        encoder: the encoder that is trained.
        preprocessing: how pixels became the encoder's input.
        provenance: where the weights come from; the epoch is added.
        interval: epochs between two writes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        encoder: ViTEncoder,
        preprocessing: Mapping[str, Any],
        provenance: Mapping[str, Any],
        interval: int = 1,
    ) -> None:
        self.path = Path(path)
        self.encoder = encoder
        self.preprocessing = preprocessing
        self.provenance = provenance
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the checkpoint handler."""
        engine.add_event_handler(Events.STARTED, self.remember_start)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        engine.add_event_handler(Events.COMPLETED, self.save_at_the_end)

    def remember_start(self, engine: Engine) -> None:
        """Remember the epoch at which this start of the run begins."""
        self.begun_at = engine.state.epoch

    def save_at_the_end(self, engine: Engine) -> None:
        """Write the backbone, unless the run was already finished: the file records which run made it."""
        if engine.state.epoch != self.begun_at or not self.path.is_file():
            self.save(engine)

    def save(self, engine: Engine) -> None:
        """Write the backbone."""
        state = whole_state(self.encoder)  # all processes together
        if is_main_process():
            facts = {**self.provenance, "epoch": engine.state.epoch}
            save_backbone(self.path, backbone_from_encoder(self.encoder, self.preprocessing, facts, state))
