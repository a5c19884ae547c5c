"""The bundles that can be packaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Kind:
    """
    A bundle.

    Args:
        folder: its name. MONAI Label reads the task from it: the first of deepedit, deepgrow, detection, segmentation
            and classification that it holds.
        readme: of the bundle, in `docs/`.
        configs: {name in the bundle: files in `configs/` that it is made of, the workflow first}.
        metadata: what its metadata say otherwise than the repository's, by id.
    """

    folder: str
    readme: str
    configs: Mapping[str, tuple[str, ...]]
    metadata: Mapping[str, Any] = field(default_factory=dict)


_TRAINING = {
    "train": ("finetune", "package_train"),
    "multi_gpu_train": ("multi_gpu",),
}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "classification": Kind(
            folder="breast_lesion_classification",
            readme="bundle_classification.md",
            configs={
                **_TRAINING,
                "inference": ("inference", "package_inference"),
                "evaluate": ("evaluate", "package_evaluate"),
            },
        ),
    }
)
