"""The bundles that can be packaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from miram.inference.classifying import TrainedClassifier, load_trained
from miram.inference.segmenting import load_segmenter

# In the order in which MONAI Label 0.8.5 looks for them in a bundle's folder name.
LABEL_TASKS = ("deepedit", "deepgrow", "detection", "segmentation", "classification")


@dataclass(frozen=True)
class Kind:
    """
    A kind of bundle.

    Raises:
        ValueError: if MONAI Label would infer another task from the name.
    """

    folder: str  # its name, from which MONAI Label infers its task
    label_task: str  # the task that MONAI Label must infer
    readme: str  # its README, in `docs/`
    load: Callable[[str | os.PathLike[str]], TrainedClassifier]  # loads the `model.pt` of a run
    # {name in the bundle: files in `configs/` from which it is made, the workflow first}
    configs: Mapping[str, tuple[str, ...]]
    # {name in the bundle: top-level ids of these files that a package does not need}
    without: Mapping[str, tuple[str, ...]]
    # values, by id, that differ from the repository's metadata and from the network's
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name."""
        taken = next((task for task in LABEL_TASKS if task in self.folder.lower()), "segmentation")
        if taken != self.label_task:
            raise ValueError(f"MONAI Label would infer {taken} from {self.folder!r}, not {self.label_task}.")


_TRAINING = {
    "train": ("finetune", "package_train", "label_training"),
    "multi_gpu_train": ("multi_gpu",),
}
# The packaged network is fixed: neither its sizes nor its task can be chosen.
_FIXED = """
    task model_content pool pretrained_num_heads image_size patch_size in_channels spatial_dims hidden_size mlp_dim
    num_layers num_heads class_token drop_path_rate activation_checkpointing
"""
_WITHOUT = {"train": tuple(_FIXED.split()), "inference": ("mode",), "evaluate": ("mode",)}


def _label_map(name: str) -> dict[str, Any]:
    """Metadata of a network of windows whose post-processed output is a label map; MONAI Label shows the name."""
    names = {"0": "background", "1": name}
    return {
        "network_data_format#inputs#image#is_patch_data": True,
        "network_data_format#outputs#pred#is_patch_data": True,
        "network_data_format#outputs#pred#channel_def": names,
        "network_data_format#post_processed_outputs#pred": {
            "type": "image",
            "format": "labels",
            "num_channels": 1,
            "spatial_shape": ["*", "*"],
            "dtype": "uint8",
            "value_range": [0, 1],
            "is_patch_data": False,
            "channel_def": names,
        },
    }


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "classification": Kind(
            folder="breast_lesion_classification",
            label_task="classification",
            readme="bundle_classification.md",
            load=load_trained,
            configs={
                **_TRAINING,
                "inference": ("inference", "package_model", "serve_classification"),
                "evaluate": ("evaluate", "package_model"),
            },
            without=_WITHOUT,
            metadata={
                "description": "A vision transformer, pretrained with MIRAM (arXiv 2503.07157), fine-tuned to classify "
                "lesions in crops of mammograms. Research only: not a medical device, not for diagnosis.",
            },
        ),
        "riskmap": Kind(
            folder="breast_lesion_riskmap_segmentation",
            label_task="segmentation",
            readme="bundle_riskmap.md",
            load=load_trained,
            configs={
                **_TRAINING,
                "inference": ("riskmap", "package_model", "serve_map"),
                "evaluate": ("evaluate", "package_model"),
            },
            without=_WITHOUT,
            metadata={
                "name": "MIRAM breast lesion risk map",
                "task": "A map of whole mammograms: the output of a lesion classifier for the window around each point",
                "description": "A vision transformer, pretrained with MIRAM (arXiv 2503.07157), fine-tuned to classify "
                "lesions and slid over whole mammograms. Research only: not a medical device, not for diagnosis.",
                "image_classes": "whole single-channel mammogram, 16 bit, classified in windows scaled to [-2, 2]",
                **_label_map("lesion risk"),
            },
        ),
        "segmentation": Kind(
            folder="breast_lesion_segmentation",
            label_task="segmentation",
            readme="bundle_segmentation.md",
            load=load_segmenter,
            configs={
                "train": ("finetune", "segment", "package_train"),
                "multi_gpu_train": ("multi_gpu",),
                "inference": ("segment_inference", "package_model", "serve_map", "serve_segmentation"),
                "evaluate": ("segment_evaluate", "package_model"),
            },
            without={**_WITHOUT, "train": (*_WITHOUT["train"], "feature_size")},
            metadata={
                "name": "MIRAM breast lesion segmentation",
                "task": "Segmentation of lesions in whole mammograms, a window at a time",
                "description": "A vision transformer, pretrained with MIRAM (arXiv 2503.07157), with UNETR's decoder, "
                "fine-tuned to segment lesions. Research only: not a medical device, not for diagnosis.",
                "image_classes": "whole single-channel mammogram, 16 bit, segmented in windows scaled to [-2, 2]",
                "network_data_format#outputs#pred#type": "image",
                "network_data_format#outputs#pred#spatial_shape": ["*", "*"],
                **_label_map("lesion"),
            },
        ),
    }
)
