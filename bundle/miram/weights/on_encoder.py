"""A small network on a frozen encoder, both in one file: `exam.pt` and `detector.pt`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from miram.errors import InputError
from miram.networks.classifier import ViTClassifier
from miram.networks.detector import LesionDetector
from miram.networks.exam_classifier import ExamClassifier
from miram.weights.backbone import check_fits, check_held, check_kinds, load_weights_file
from miram.weights.classifier import corrected_state


@dataclass(frozen=True)
class FileKind:
    """What a file holds."""

    name: str  # of the small network, the first part of its keys
    make: Callable[..., nn.Module]  # builds it
    facts: tuple[str, ...]  # other keys, with plain values
    mistaken: str  # what the error says of another file


EXAM = FileKind(
    "exam",
    ExamClassifier,
    ("tiles", "task", "scaling", "thresholds", "prepared", "provenance"),
    "is not a model of examinations: train one with configs/exam.yaml. A model.pt of fine-tuning classifies crops of "
    "lesions: configs/inference.yaml",
)
DETECTOR = FileKind(
    "detector",
    LesionDetector,
    ("maps", "thresholds", "prepared", "provenance"),
    "is not a detector: train one with configs/detector.yaml. A model.pt of fine-tuning finds lesions by its risk map: "
    "configs/riskmap.yaml",
)


def content_on_encoder(
    kind: FileKind, network: nn.Module, encoder: ViTClassifier, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """
    The content of a file in plain values and tensors.

    Args:
        network: the small network, with its arguments as `network_def`.
        encoder: a network with the encoder.
        facts: plain values, those of the kind.
    """
    return {
        f"{kind.name}_network_def": network.network_def,
        f"{kind.name}_state_dict": corrected_state(network),
        "encoder_network_def": encoder.network_def,
        "encoder_state_dict": corrected_state(encoder),
        **{name: facts[name] for name in kind.facts},
    }


def load_on_encoder(path: str | os.PathLike[str], kind: FileKind) -> tuple[Any, ViTClassifier, dict[str, Any]]:
    """
    Read a file, on the CPU. Nothing in it is executed.

    Returns:
        the small network and the network with the encoder, both in evaluation mode, and the file's content.

    Raises:
        InputError: if the file is missing, damaged, or of another kind.
    """
    content = load_weights_file(path)
    keys = {
        *(f"{name}_{part}" for name in (kind.name, "encoder") for part in ("network_def", "state_dict")),
        *kind.facts,
    }
    if not content.keys() >= keys:
        raise InputError(f"{path} {kind.mistaken}")
    check_kinds(path, content, dict.fromkeys(sorted(keys), dict))
    definition, state = content["encoder_network_def"], content["encoder_state_dict"]
    check_fits(path, lambda: ViTClassifier(**definition), definition.get("encoder", {}), state)
    check_held(path, content[f"{kind.name}_state_dict"].values())
    try:
        network = kind.make(**content[f"{kind.name}_network_def"])
        network.load_state_dict(content[f"{kind.name}_state_dict"])
        encoder = ViTClassifier(**definition)
        encoder.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:300]}") from error
    encoder.freeze_encoder()
    return network.eval(), encoder.eval(), content
