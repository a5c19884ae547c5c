"""A lesion classifier applied to sliding windows of whole mammograms: one probability per window becomes a map."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from monai.utils import convert_to_tensor
from scipy import ndimage

from miram.data.tasks import Task
from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.inference.mammograms import whole_breast
from miram.inference.windows import Region, WindowFunction, WindowGrid, check_windows, is_number, window_to_input
from miram.progress import progress_bar
from miram.readers.formats import read_image

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class RiskMapInferer(Inferer):
    """
    Map whole images with a network that returns one answer per window.

    The value at a point is that of the window around it, shifted into the image if it would cross an edge, as crops
    are. Between the windows' centres it is interpolated linearly. Outside the breast it is 0. A window is classified
    only if some pixel of the breast is nearer to its centre than to any other's.

    MONAI's `PatchInferer` and `SlidingWindowInferer` paste the network's output over the window. One value per window
    would fill the whole window and spread a lesion over twice its size, and `PatchInferer` fails if no window is left.

    Raises:
        InputError: if `roi_size`, `overlap` or `sw_batch_size` is out of range.
    """

    roi_size: Sequence[int]  # size of a window, in pixels of the image, two numbers
    overlap: float  # smallest share of a window that the next one also covers
    sw_batch_size: int  # windows that are classified at once; memory grows with it
    preprocessing: WindowFunction  # turns windows (B, 1, h, w) into the network's input
    postprocessing: WindowFunction  # turns the network's output into probabilities (B,)
    progress: bool = True  # whether to show a bar over the windows
    precision: str = "float32"  # in which the network computes, see `engines.steps.autocast`; its output is float32

    def __post_init__(self) -> None:
        if len(self.roi_size) != 2:
            axes = len(self.roi_size)
            raise InputError(f"the model takes windows with {axes} axes; risk maps need a model of 2D images")
        check_windows(self.overlap, self.sw_batch_size)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Map images.

        Args:
            inputs: (B, 1, H, W), 0..65535.
            network: returns logits for preprocessed windows.

        Returns:
            (B, 1, H, W), float32 from 0 to 1, on the CPU.

        Raises:
            InputError: if an image has several channels or other axes, or shows no breast.
        """
        if inputs.ndim != 4 or inputs.shape[1] != 1:
            raise InputError(f"images of shape {tuple(inputs.shape[1:])} cannot be mapped; give gray 2D images")
        network = in_precision(network, self.precision)
        images = convert_to_tensor(inputs, track_meta=False)  # metadata slows down every operation
        return torch.stack([self._map(image, lambda batch: network(batch, *args, **kwargs)) for image in images])

    def regions(self, probability: np.ndarray, count: int = 10) -> list[Region]:
        """The highest regions of a map (H, W) of this inferer, see :meth:`WindowGrid.highest_regions`."""
        return self._grid(probability.shape).highest_regions(probability, count)

    def _grid(self, shape: Sequence[int]) -> WindowGrid:
        return WindowGrid.of(shape, self.roi_size, self.overlap)

    def _map(self, image: torch.Tensor, network: WindowFunction) -> torch.Tensor:
        """(1, H, W) -> (1, H, W)."""
        breast = whole_breast(image[0].cpu().numpy())
        grid = self._grid(breast.shape)
        judged = grid.showing(breast)
        places = np.argwhere(judged)
        values = np.zeros(judged.shape, np.float32)
        values[judged] = self._judge(grid.batches(image, places, self.sw_batch_size), len(places), network)
        nearest = ndimage.distance_transform_edt(~judged, return_distances=False, return_indices=True)
        spread = grid.interpolate(values[tuple(nearest)])
        spread *= breast
        return torch.from_numpy(spread.clip(0, 1, out=spread))[None]

    def _judge(self, batches: Iterator[torch.Tensor], count: int, network: WindowFunction) -> np.ndarray:
        """The probabilities of `count` windows, (count,)."""
        found = []
        with progress_bar(count if self.progress else 0, "risk map", unit="windows") as bar:
            for windows in batches:
                found.append(self.postprocessing(network(self.preprocessing(windows))).float().cpu())
                bar.update(len(windows))
        return torch.cat(found).numpy()


@dataclass(eq=False)
class ClassProbability:
    """The probability of one class."""

    task: Task  # of the logits
    calibration: Calibration  # turns them into probabilities
    name: str  # the class

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, K) -> (B,)."""
        return self.calibration.probabilities(logits, self.task)[:, self.task.scored.index(self.name)]


def largest_risks(trained: TrainedClassifier, paths: Sequence[str]) -> dict[str, float]:
    """
    The largest value of each view's risk map, for the positive class of a binary task.

    Args:
        paths: of prepared views, with the pixels of the training crops.
    """
    inferer = RiskMapInferer(
        trained.preprocessing["field_of_view"],
        overlap=0.5,
        sw_batch_size=16,
        preprocessing=window_to_input(trained.preprocessing),
        postprocessing=ClassProbability(trained.task, trained.calibration, mapped_class(trained.task)),
        progress=False,
    )
    found = {}
    with torch.no_grad():
        for path in progress_bar(len(paths), "risk maps", unit="views", iterable=paths):
            pixels = torch.from_numpy(read_image(path).pixels.astype(np.float32))[None, None]
            found[path] = float(inferer(pixels, trained.network).max())
    return found


def roi_size(field_of_view: Sequence[int], zoom: float = 1.0, crops: str | None = None) -> tuple[int, ...]:
    """
    The window size in the source image that shows as much tissue as a training crop.

    Args:
        field_of_view: the part of a crop that the classifier saw in training, in pixels.
        zoom: pixels of the training images per pixel of the source, along an axis: 0.5 for a source twice as fine.
        crops: how the training crops were made, if known; "whole" images differed in scale.

    Raises:
        InputError: if `zoom` is not positive.
    """
    if not (is_number(zoom) and math.isfinite(zoom) and zoom > 0):
        raise InputError(f"zoom is {zoom}; give a positive number: 0.5 for a source twice as fine as training's")
    if crops == "whole":
        logger.warning(
            "the classifier was trained on whole images, all resized to one size (--crops whole), so their pixel sizes "
            "differed; give the --zoom that shows lesions as large as in training"
        )
    return tuple(max(1, round(length / zoom)) for length in field_of_view)


def mapped_class(task: Task, name: str | None = None) -> str:
    """
    The class whose probability is mapped: the positive class of a binary task, or the named one.

    Raises:
        InputError: if the name is not one of the task's classes, or is missing although there are several.
    """
    if name is None and len(task.scored) == 1:
        return task.scored[0]
    if name not in task.scored:
        problem = "has several classes" if name is None else f"has no probability of {name!r}"
        raise InputError(f"the task {task.name!r} {problem}; give --mapped_class one of {', '.join(task.scored)}")
    return name


def operating_point(calibration: Calibration, name: str, threshold: float | None = None) -> float:
    """
    The probability at or above which a point is labelled: the given one, or the class's operating point, or 0.5.

    Raises:
        InputError: if it is not above 0 and at most 1.
    """
    point = calibration.thresholds_at("image", [name])[name] if threshold is None else threshold
    if not (is_number(point) and 0 < point <= 1):
        raise InputError(f"the threshold is {point}; give --threshold a probability above 0 and at most 1")
    return float(point)
