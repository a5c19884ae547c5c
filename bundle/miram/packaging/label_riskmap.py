"""What MONAI Label calls of the risk map's config when it serves it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Transform

from miram.inference.mammograms import LoadMammogramd, check_mammogram
from miram.packaging.label_serving import Data, dicom_source
from miram.visualize.html_report import INTENDED_USE

# A label map in such a file would be lossy, or no valid DICOM: it is given as the other instead.
_RESULT_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".dcm": ".nii.gz", ".dicom": ".nii.gz", ".ima": ".nii.gz"}


class LoadServedMammogramd(LoadMammogramd):
    """Load whole mammograms; one that MONAI Label made a NIfTI of from its DICOM, which ITK puts on the same grid."""

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """
        Replace paths by images, see :class:`miram.inference.mammograms.LoadMammogramd`.

        Raises:
            InputError: if an image cannot be read, is a volume, or shows no breast.
        """
        paths = {key: data[key] for key in self.key_iterator(data)}
        result = super().__call__({**data, **{key: dicom_source(path) for key, path in paths.items()}})
        for key, path in paths.items():
            check_mammogram(path, result[key][0].numpy().astype(np.uint16))
        return result


class AnswerMapd(Transform):
    """
    Say with a label map what it is, and give it in a format that can hold it, unless the client named one.

    Args:
        facts: told with each answer, besides the intended use.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = {**facts, "intended_use": INTENDED_USE}

    def __call__(self, data: Data) -> Data:
        """Answer."""
        suffix = Path(str(data.get("image_path", ""))).suffix.lower()
        extension = data.get("result_extension") or _RESULT_SUFFIXES.get(suffix)
        return {**data, "result": {**(data.get("result") or {}), **self.facts}, "result_extension": extension}
