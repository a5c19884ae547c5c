"""How good a representation is while it is learnt: its rank, and how well nearest neighbours predict labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.transforms import Compose
from scipy.stats import entropy

from miram.data.datalist import load_split
from miram.data.tasks import read_task, targets
from miram.engines.distributed import gather_objects, is_main_process
from miram.loading.seeded import SeededDataset, make_loader
from miram.losses.reconstruction import downsample
from miram.metrics.classification import knn_scores
from miram.networks.vit_encoder import ViTEncoder

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class NeighborProbe:
    """
    A k-NN classifier of the validation images from the labelled training images. Unknown labels are ignored in both.

    Raises:
        InputError: if the data list lacks the task.
    """

    dataset_dir: str | os.PathLike[str]  # a prepared folder with labels
    task: str  # name of a task of its data list
    preprocessing: Compose  # that of the validation images, without augmentation; its input "label" is the image's path
    neighbors: int = 20
    batch_size: int = 32  # images encoded at once
    num_workers: int = 0  # loader processes; 0 loads in this process
    # the loader in place of the one that reads the files, for example `packed_or_files`; None keeps it
    faster: Callable[[DataLoader], Iterable[dict[str, torch.Tensor]]] | None = None

    def __post_init__(self) -> None:
        task = read_task(self.dataset_dir, self.task)
        items = load_split(self.dataset_dir, "training")
        table = targets(items, task)
        known = ~np.isnan(table).any(axis=1)
        self.targets = table[known]
        images = [{"label": item["image"]} for item, kept in zip(items, known, strict=True) if kept]
        files = make_loader(SeededDataset(images, self.preprocessing), self.batch_size, False, self.num_workers)
        self.loader = files if self.faster is None else self.faster(files)
        self.held_out_targets = targets(load_split(self.dataset_dir, "validation", required=False), task)

    @property
    def defined(self) -> bool:
        """Whether there are training labels, and the validation split has both labels of at least one class."""
        return len(self.targets) > 0 and any(np.isin((0, 1), column).all() for column in self.held_out_targets.T)

    def scores(self, features: np.ndarray, held_out_features: np.ndarray) -> dict[str, float]:
        """
        "knn_auc" and "knn_ap" of the validation images.

        Args:
            features: (N, D) of the images of :attr:`loader`, in their order.
            held_out_features: (M, D) of the validation images, in the data list's order.
        """
        return knn_scores(features, self.targets, held_out_features, self.held_out_targets, self.neighbors)


@dataclass(eq=False)
class RepresentationMonitor:
    """
    Every few epochs, encode the unmasked validation images and set the trainer's metrics "rank" (RankMe) and "knn_...".

    The metrics exist from the end of that epoch to the start of the next, for the history and TensorBoard. The
    processes share the images. Validation's own pass through the encoder cannot serve: there, most patches are hidden.
    """

    encoder: ViTEncoder  # the encoder that is trained, without wrappers
    # that of the validation, whose packed copy or worker processes are there already
    loader: Iterable[dict[str, torch.Tensor]]
    image_size: Sequence[int]  # the encoder's image size in pixels, to which images are downsampled
    device: torch.device  # where the encoder is
    interval: int = 1  # epochs between two measurements
    probe: NeighborProbe | None = None  # also predicts labels; None measures the rank only

    def __post_init__(self) -> None:
        self.names: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the history."""
        engine.add_event_handler(Events.STARTED, self.check)
        engine.add_event_handler(Events.EPOCH_STARTED, self.forget)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.look)

    def check(self, engine: Engine) -> None:
        """Warn if the labels define no metric, and continue without them."""
        if self.probe is not None and not self.probe.defined:
            logger.warning(
                "monitor_task %s: the training split has no known label or the validation split has only one class, "
                "so knn_auc is not available; choose another task, or null",
                self.probe.task,
            )
            self.probe = None

    def forget(self, engine: Engine) -> None:
        """Remove the last metrics: they are not those of the new epoch."""
        for name in self.names:
            engine.state.metrics.pop(name, None)

    def look(self, engine: Engine) -> None:
        """Set the metrics in the first process, if they are due in this epoch; all processes call it together."""
        if engine.state.epoch % self.interval:
            return
        features = self._encode(self.loader)
        neighbours = None if self.probe is None else self._encode(self.probe.loader)
        if is_main_process():
            metrics = self._metrics(features, neighbours)
            self.names |= metrics.keys()
            engine.state.metrics.update(metrics)

    def _metrics(self, features: np.ndarray, neighbours: np.ndarray | None) -> dict[str, float]:
        if not np.isfinite(features).all():
            logger.warning("the encoder's features are not finite: the rank of this epoch is missing")
            return {}
        metrics = {"rank": effective_rank(features)}
        if self.probe is not None and neighbours is not None:
            metrics |= self.probe.scores(neighbours, features)
        return metrics

    @torch.no_grad()
    def _encode(self, loader: Iterable[dict[str, torch.Tensor]]) -> np.ndarray:
        """The class tokens (or means of patches, without class token) of all processes' images, in order, (N, D)."""
        was_training = self.encoder.training
        self.encoder.eval()
        try:
            own = {
                int(n): row for batch in loader for n, row in zip(batch["index"], self._features(batch), strict=True)
            }
        finally:
            self.encoder.train(was_training)
        found = {index: row for share in gather_objects(own) for index, row in share.items()}
        return np.stack([found[index] for index in sorted(found)])

    def _features(self, batch: dict[str, torch.Tensor]) -> np.ndarray:
        image = downsample(batch["label"].to(self.device, torch.float32), self.image_size)
        return self.encoder.pool(self.encoder(image)).float().cpu().numpy()


def effective_rank(features: np.ndarray) -> float:
    """
    RankMe (Garrido et al. 2023, arXiv 2210.02885): the exponential of the entropy of the normalised singular values.

    It needs no labels; 1 means that all features are multiples of one vector (collapse). MONAI's
    `EmbeddingCollapseMetric` subtracts the mean feature first, and so measures something else: it returns 0 then.

    Args:
        features: (N, D) of N images, as the encoder returns them.

    Returns:
        from 1 to min(N, D); 0 if all features are 0.
    """
    singular_values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    return float(np.exp(entropy(singular_values))) if singular_values.any() else 0.0
