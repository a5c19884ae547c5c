"""What MONAI Label calls when it serves a bundle: reading images, and answers that say what they are."""

from __future__ import annotations

import filecmp
import os
import sys
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from miram.errors import InputError
from miram.inference.classifying import Probabilitiesd, TrainedClassifier, find_calibration
from miram.inference.inputs import LoadCropd
from miram.inference.mammograms import LoadMammogramd, check_mammogram
from miram.packaging.weights import load_packaged
from miram.readers.formats import without_suffix
from miram.visualize.html_report import INTENDED_USE

Data = dict[Hashable, Any]

# A label map in such a file would be lossy or not valid DICOM; it is returned in the other format instead.
_RESULT_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".dcm": ".nii.gz", ".dicom": ".nii.gz", ".ima": ".nii.gz"}


@dataclass(eq=False)
class ServedClassifier:
    """The bundle's current classifier: training may replace it while the server runs."""

    path: str | os.PathLike[str]  # the bundle's `model.pt`
    facts: Mapping[str, Any]  # see :func:`miram.packaging.weights.classifier_facts`
    # calibration from an evaluation; used if it belongs to the weights
    calibration_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        self._read: tuple[int, Probabilitiesd] | None = None

    def probabilities(self) -> Probabilitiesd:
        """
        The transform of the logits under "pred" to probabilities, with the calibration that belongs to the weights.

        Raises:
            InputError: if the file is missing or damaged, or contains another network's weights. The server itself
                would load the weights that fit and leave the rest random.
        """
        path = Path(self.path)
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        if self._read is None or self._read[0] != changed:
            trained: TrainedClassifier = load_packaged(path, self.facts)
            calibration = find_calibration(trained, self.calibration_file)
            self._read = changed, Probabilitiesd("pred", trained.task, calibration)
        return self._read[1]


@dataclass(eq=False)
class CheckServedd(Transform):
    """Check that the bundle's weights fit its network, and run transforms; the client sees their `InputError`."""

    transforms: Sequence[Callable[[Data], Data]]  # those that prepare an image
    classifier: ServedClassifier

    def __call__(self, data: Data) -> Data:
        """Prepare the image."""
        try:
            if not data["image"]:
                raise InputError("there is no image with that name among the server's studies")
            self.classifier.probabilities()
            for transform in self.transforms:
                data = transform(data)
        except InputError as error:  # the server tells the client only of its own kind of errors
            from starlette.exceptions import HTTPException  # installed with the server

            raise HTTPException(status_code=400, detail=str(error)) from error
        return data


class LoadServedCropd(LoadCropd):
    """Load crops of lesions; for a NIfTI that MONAI Label made from a DICOM file, load the DICOM."""

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """Replace paths with images, see :class:`miram.inference.inputs.LoadCropd`."""
        sources = {key: dicom_source(data[key]) for key in self.key_iterator(data)}
        return super().__call__({**data, **sources})


class LoadServedMammogramd(LoadMammogramd):
    """
    Load whole mammograms; for a NIfTI that MONAI Label made from a DICOM file, load the DICOM (ITK's same grid).

    Args:
        intensity: see :func:`miram.readers.formats.read_image`.
        smallest_view: see :func:`miram.inference.mammograms.find_mammograms`.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], intensity: str = "stored", smallest_view: int = 0) -> None:
        super().__init__(keys, intensity)
        self.smallest_view = smallest_view

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """
        Replace paths with images, see :class:`miram.inference.mammograms.LoadMammogramd`.

        Raises:
            InputError: if an image cannot be read, is a volume, shows no breast, or is as small as a crop.
        """
        paths = {key: data[key] for key in self.key_iterator(data)}
        result = super().__call__({**data, **{key: dicom_source(path) for key, path in paths.items()}})
        for key, path in paths.items():
            check_mammogram(path, result[key][0].numpy().astype(np.uint16), self.smallest_view)
        return result


@dataclass(eq=False)
class AnswerClassd(Transform):
    """
    Turn logits into the answer of a MONAI Label classification: probabilities, as a 1-D `MetaTensor` under "pred".
    """

    classifier: ServedClassifier

    def __call__(self, data: Data) -> Data:
        """Make the answer; the image is left out, since MONAI Label would resize the answer to its size."""
        answered: Data = {key: value for key, value in data.items() if key not in ("image", "image_meta_dict")}
        answered.update(self.classifier.probabilities()(answered))
        answered["pred"] = MetaTensor(torch.as_tensor(answered["pred"]))
        # the reply has no better field for it than the latencies
        answered["latencies"] = dict(answered.get("latencies") or {}, intended_use=INTENDED_USE)
        return answered


class AnswerMapd(Transform):
    """
    Add a description to a label map, and choose a format that can store it, unless the client chose one.

    Args:
        facts: sent with each answer, in addition to the intended use.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = {**facts, "intended_use": INTENDED_USE}

    def __call__(self, data: Data) -> Data:
        """Add description and format."""
        suffix = Path(str(data.get("image_path", ""))).suffix.lower()
        extension = data.get("result_extension") or _RESULT_SUFFIXES.get(suffix)
        return {**data, "result": {**(data.get("result") or {}), **self.facts}, "result_extension": extension}


def dicom_source(path: str | os.PathLike[str]) -> Path:
    """
    The DICOM file from which MONAI Label made a NIfTI, if it did.

    MONAI Label keeps a series from a DICOMweb server as a folder, and next to it a volume with the same name, which
    does not say how many bits were stored, or which window applies.

    Returns:
        the only file of that folder; `path` itself if there is no such folder, or it contains several files.
    """
    path = Path(path)
    kept = _kept_copy(path)
    folder = without_suffix(kept)
    files = sorted(folder.glob("*.dcm")) if folder != kept and folder.is_dir() else []
    return files[0] if len(files) == 1 else path


def _kept_copy(path: Path) -> Path:
    """The server's copy of a temporary NIfTI, which it passes on for a series that it has just fetched."""
    if "monailabel" not in sys.modules or path.parent != Path(tempfile.gettempdir()):
        return path
    from monailabel.interfaces.utils.app import app_instance

    datastore = app_instance().datastore()
    kept = (datastore.get_image_info(name).get("path") for name in datastore.list_images())
    return next((Path(copy) for copy in kept if copy and filecmp.cmp(path, copy, shallow=False)), path)
