"""`exam.pt`: the file of a trained classifier of examinations, with the encoder of its tiles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from miram.errors import InputError
from miram.files import atomic_write
from miram.networks.classifier import ViTClassifier
from miram.networks.exam_classifier import ExamClassifier
from miram.weights.backbone import check_fits, check_held, check_kinds, load_weights_file

_KINDS = {
    "exam_network_def": dict,
    "exam_state_dict": dict,
    "encoder_network_def": dict,
    "encoder_state_dict": dict,
    "tiles": dict,
    "task": dict,
    "scaling": dict,
    "thresholds": dict,
    "prepared": dict,
    "provenance": dict,
}


def save_exam_model(
    path: str | os.PathLike[str], network: ExamClassifier, encoder: ViTClassifier, facts: Mapping[str, Any]
) -> None:
    """
    Write a trained classifier of examinations, completely or not at all.

    Args:
        network: pools the tiles.
        facts: plain values: "tiles", "task", "scaling", "thresholds", "prepared" and "provenance".
    """
    content = {
        "exam_network_def": network.network_def,
        "exam_state_dict": _on_cpu(network),
        "encoder_network_def": encoder.network_def,
        "encoder_state_dict": _on_cpu(encoder),
        **facts,
    }
    with atomic_write(path) as temporary:
        torch.save(content, temporary)


def load_exam_model(path: str | os.PathLike[str]) -> tuple[ExamClassifier, ViTClassifier, dict[str, Any]]:
    """
    Read what :func:`save_exam_model` wrote, on the CPU. Nothing in the file is executed.

    Returns:
        the classifier, the network with its encoder, and the file's content.

    Raises:
        InputError: if the file is missing, damaged, or of another kind.
    """
    content = load_weights_file(path)
    if not content.keys() >= _KINDS.keys():
        raise InputError(
            f"{path} is not a model of examinations: train one with configs/exam.yaml. A model.pt of fine-tuning "
            "classifies crops of lesions: configs/inference.yaml"
        )
    check_kinds(path, content, _KINDS)
    definition, state = content["encoder_network_def"], content["encoder_state_dict"]
    check_fits(path, lambda: ViTClassifier(**definition), definition.get("encoder", {}), state)
    check_held(path, content["exam_state_dict"].values())
    try:
        network = ExamClassifier(**content["exam_network_def"])
        network.load_state_dict(content["exam_state_dict"])
        encoder = ViTClassifier(**definition)
        encoder.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:300]}") from error
    encoder.freeze_encoder()
    return network.eval(), encoder.eval(), content


def _on_cpu(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
