"""`model.pt`: the file of a trained classifier or segmentation of crops."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from miram.errors import InputError
from miram.networks.classifier import ViTClassifier
from miram.networks.segmenter import ViTSegmenter, describes_segmenter
from miram.weights.backbone import check_fits, check_kinds, load_weights_file

_KEYS = {"network_def", "state_dict", "task", "preprocessing", "provenance"}


def classifier_content(
    network: ViTClassifier | ViTSegmenter,
    task: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    provenance: Mapping[str, Any],
    prior_correction: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """
    Describe a trained classifier or segmentation in plain values and tensors, as stored in `model.pt`.

    Args:
        task: "name", "type" and "classes" of what it predicts.
        preprocessing: how pixels are turned into its input.
        provenance: where the weights come from.
        prior_correction: (K,) added to the head's bias, so that the logits of a network trained on balanced classes fit
            the true class frequencies (:func:`miram.inference.calibrated.prior_correction`).
    """
    return {
        "network_def": network.network_def,
        "state_dict": corrected_state(network, prior_correction),
        "task": {"name": task["name"], "type": task["type"], "classes": list(task["classes"])},
        "preprocessing": dict(preprocessing),
        "provenance": dict(provenance),
    }


def corrected_state(
    network: nn.Module, correction: Sequence[float] | np.ndarray | None = None, head: str = "classification_head"
) -> dict[str, torch.Tensor]:
    """
    A copy of a classifier's weights on the CPU.

    Args:
        correction: (K,) added to the bias of its head; None adds nothing.
        head: the name of its last layer.
    """
    state = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    if correction is not None:
        bias = state[f"{head}.bias"]
        bias += torch.as_tensor(np.asarray(correction), dtype=bias.dtype)
    return state


def read_scaling(content: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """
    A file's scale and bias of the logits, one number per class; an older file's temperature is 1 / scale for all.

    Returns:
        scale and bias, empty if the file has none.

    Raises:
        ValueError: if their lengths differ, a number is not finite, or a scale is not positive.
    """
    temperature = content.get("temperature")
    scale, bias = content.get("scale") or [], content.get("bias") or []
    if temperature is not None:
        scale, bias = [temperature], [0.0]
    if not (isinstance(scale, list) and isinstance(bias, list) and len(scale) == len(bias)):
        raise ValueError("its scale and bias are not two lists with a number for each class")
    numbers = all(isinstance(value, int | float) and abs(value) < 1e30 for value in scale + bias)
    if not numbers or min(scale, default=1) <= 0:
        raise ValueError("its scale or temperature is not positive, or its bias is not a number")
    return ([1 / temperature] if temperature is not None else scale), bias


def _check_facts(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    task, thresholds = content["task"], content.get("thresholds")
    classes = task.get("classes")
    named = isinstance(task.get("name"), str) and task.get("type") in ("binary", "multiclass", "multilabel")
    if not (named and isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise InputError(f"{path} is damaged: its task has no name, known type and list of classes")
    try:
        scale, _ = read_scaling(content)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if len(scale) not in (0, 1, len(classes[-1:] if task["type"] == "binary" else classes)):
        raise InputError(f"{path} is damaged: it has {len(scale)} scales of logits for {len(classes)} classes")
    levels = [] if thresholds is None else list(thresholds.values()) if isinstance(thresholds, dict) else [None]
    if not all(isinstance(level, dict) for level in levels):
        raise InputError(f"{path} is damaged: its thresholds are not a dictionary of levels and classes")


def _check_kind(path: str | os.PathLike[str], content: Mapping[str, Any], make: Callable[..., nn.Module]) -> None:
    segments = describes_segmenter(content["network_def"])
    if segments and make is not ViTSegmenter:
        raise InputError(
            f"{path} segments lesions and is not a classifier: apply it with segment_inference.yaml, evaluate it with "
            "segment_evaluate.yaml, package it with --bundle segmentation"
        )
    if make is ViTSegmenter and not segments:
        raise InputError(
            f"{path} is a classifier (task {content['task']['name']!r}) and does not segment: apply it to crops with "
            "inference.yaml, to whole mammograms with riskmap.yaml; segment.yaml trains a segmentation"
        )


def load_classifier(
    path: str | os.PathLike[str], make: Callable[..., nn.Module] = ViTClassifier
) -> tuple[Any, dict[str, Any]]:
    """
    Read a classifier on the CPU, in evaluation mode. Nothing in the file is executed.

    Args:
        path: `model.pt`.
        make: builds the network from the file's "network_def".

    Returns:
        the network, and the rest of the file: "network_def", "task", "preprocessing", "provenance"; in older files also
        "temperature" and "thresholds".

    Raises:
        InputError: if the file is missing or damaged, or a segmentation where a classifier is built, or the reverse.
    """
    content = load_weights_file(path)
    if not content.keys() >= _KEYS:
        raise InputError(
            f"{path} is not a classifier: it lacks {sorted(_KEYS - content.keys())}. "
            "Give the model.pt of a fine-tuning run."
        )
    check_kinds(path, content, dict.fromkeys(sorted(_KEYS), dict))
    _check_facts(path, content)
    _check_kind(path, content, make)
    state = content.pop("state_dict")
    network_def, encoder = content["network_def"], content["network_def"].get("encoder")
    check_fits(path, lambda: make(**network_def), encoder if isinstance(encoder, dict) else {}, state)
    network = make(**network_def)
    network.load_state_dict(state, strict=True)
    return network.eval(), content
