"""The outputs of risk mapping: maps on the source image's grid, pictures, and a table of regions."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.data.utils import to_affine_nd
from monai.engines import SupervisedEvaluator

from miram.files import atomic_write, write_json, write_table
from miram.handlers.cases import readable
from miram.handlers.inference_report import result_facts
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.inference.inputs import Inputs, output_names
from miram.inference.risk_map import RiskMapInferer
from miram.inference.segmenting import SegmentationInferer
from miram.inference.windows import Region
from miram.visualize.heat_map import plot_risk_map
from miram.visualize.html_report import INTENDED_USE

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class RiskMapHandler:
    """Write `<name>_probability.nii.gz`, `<name>_label.nii.gz` and `<name>.png` of each image, then the tables."""

    columns: ClassVar = ["image", "rank", "row", "column", "probability", "labelled", "problem"]

    output_dir: Path
    trained: TrainedClassifier
    inputs: Inputs  # the images, in the order of the data, and the files that could not be used
    calibration: Calibration  # how logits became probabilities, for the tables
    mapped_class: str  # the class whose probability is mapped
    threshold: float  # at or above it the label is 1
    inferer: RiskMapInferer | SegmentationInferer  # makes the maps and finds their regions
    num_findings: int = 10  # the largest number of regions per image
    overlays: bool = True  # whether to draw the pictures

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.names = output_names(self.inputs.names)
        self.rows: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that decollates, whose outputs have "image", "pred" and "probability"."""
        engine.add_event_handler(Events.STARTED, self.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write_maps)
        engine.add_event_handler(Events.COMPLETED, self.write_tables)

    def clear(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.rows, self.images = [], []

    def write_maps(self, engine: SupervisedEvaluator) -> None:
        """Write the files of single images."""
        for sample, output in zip(list(engine.state.batch), list(engine.state.output), strict=True):
            self._write(int(sample["index"]), output)

    def write_tables(self, engine: Engine) -> None:
        """Write `findings.csv` and `findings.json`, and log what was done."""
        problems = [{"image": name, "problem": problem} for name, problem in self.inputs.problems.items()]
        table = pd.DataFrame(self.rows + problems, columns=self.columns)
        whole = {"rank", "row", "column", "pixels"} & set(self.columns)
        table = table.astype(dict.fromkeys(whole, "Int64"))  # also with empty cells
        write_table(self.output_dir / "findings.csv", table)
        content = {
            **result_facts(self.trained, self.calibration),
            "mapped_class": self.mapped_class,
            "threshold": self.threshold,
            "window": list(self.inferer.roi_size),
            "images": self.images,
            "problems": self.inputs.problems,
        }
        write_json(self.output_dir / "findings.json", content)
        labelled = sum(image["labelled_share"] > 0 for image in self.images)
        logger.info(
            "%d mammograms mapped, %d of them with a point at or above %.3g; %d files skipped: %s. %s",
            len(self.images),
            labelled,
            self.threshold,
            len(self.inputs.problems),
            self.output_dir,
            INTENDED_USE,
        )

    def _write(self, index: int, output: dict[str, Any]) -> None:
        meta = output["image"].meta
        label, probability = (_rows_first(output[key]) for key in ("pred", "probability"))
        regions = self.inferer.regions(probability, self.num_findings)
        name = self.names[index]
        for kind, values in (("probability", output["probability"]), ("label", output["pred"])):
            text = f"{kind} of {readable(self.mapped_class)}; research use only, not a medical device"
            write_map(self.output_dir / f"{name}_{kind}.nii.gz", values, meta, text)
        if self.overlays:
            self._draw(index, output["image"][0].cpu().numpy(), probability, regions)
        self._record(index, label, probability, regions)

    def _record(self, index: int, label: np.ndarray, probability: np.ndarray, regions: Sequence[Region]) -> None:
        """Keep an image's rows for the tables, and log the first of them."""
        source = self.inputs.names[index]
        found = [
            {"rank": rank, **asdict(region), "labelled": region.probability >= self.threshold}
            for rank, region in enumerate(regions, start=1)
        ]
        self.rows += [{"image": source, **finding} for finding in found] or [{"image": source, "labelled": False}]
        share = float(label.sum() / max(int((probability > 0).sum()), 1))
        facts = {"image": source, "files": self.names[index], "pixels": list(label.shape), "labelled_share": share}
        self.images.append({**facts, "findings": found})
        where = f" at row {regions[0].row}, column {regions[0].column}" if regions else ""
        logger.info(
            "%s: highest %.3f%s; %.1f %% of the breast at or above %.3g",
            source,
            probability.max(),
            where,
            100 * share,
            self.threshold,
        )

    def _draw(self, index: int, image: np.ndarray, probability: np.ndarray, regions: Sequence[Region]) -> None:
        shown = readable(self.mapped_class)
        plot_risk_map(
            image,
            probability,
            [(region.row, region.column) for region in regions],
            self.output_dir / f"{self.names[index]}.png",
            f"{self.inputs.names[index]}: probability of {shown} up to {probability.max():.2f}",
            shown,
            self.threshold,
            f"{self.note()} Cyan: at or above {self.threshold:.3g}. Numbers: the highest regions.\n{INTENDED_USE}",
        )

    def note(self) -> str:
        """What a value of the map is, for the pictures."""
        height, width = self.inferer.roi_size
        return f"Each point shows the classifier's prediction for the window of {height} x {width} pixels around it."


class SegmentationMapHandler(RiskMapHandler):
    """The same for a segmentation: the label is its mask, and the table has the area of each region."""

    columns: ClassVar = [*RiskMapHandler.columns[:-2], "pixels", *RiskMapHandler.columns[-2:]]

    def note(self) -> str:
        """What a value of the map is, for the pictures."""
        return "Each point shows the network's probability that this pixel is part of a lesion."


def write_map(path: str | os.PathLike[str], values: torch.Tensor, meta: dict[str, Any], text: str = "") -> None:
    """
    Write a map as NIfTI on the grid of its source, completely or not at all.

    Args:
        path: ends in `.nii.gz`.
        values: (W, H) or (1, W, H, 1), as :class:`miram.inference.mammograms.ToSourceGridd` returns them.
        meta: of the loaded image: "spatial_shape" and "original_affine".
        text: the header's description, up to 79 characters.
    """
    shape = [int(length) for length in meta["spatial_shape"]]
    affine = to_affine_nd(3, np.asarray(meta["original_affine"]))
    volume = nibabel.Nifti1Image(values.cpu().numpy().reshape(shape), affine)
    volume.header["descrip"] = text[:79]
    volume.header.set_xyzt_units("mm")
    with atomic_write(path) as temporary:
        nibabel.save(volume, temporary)


def _rows_first(values: torch.Tensor) -> np.ndarray:
    """Maps (W, H) or (1, W, H, 1) as (H, W)."""
    array = values.cpu().numpy()
    return (array if array.ndim == 2 else array[0, :, :, 0]).T
