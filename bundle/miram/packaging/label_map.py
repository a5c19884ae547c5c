"""What MONAI Label calls when it serves a label map: that of the risk map, or a segmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Transform

from miram.inference.mammograms import LoadMammogramd, check_mammogram
from miram.packaging.label_serving import Data, dicom_source
from miram.visualize.html_report import INTENDED_USE

# A label map in such a file would be lossy or not valid DICOM; it is returned in the other format instead.
_RESULT_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".dcm": ".nii.gz", ".dicom": ".nii.gz", ".ima": ".nii.gz"}


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
