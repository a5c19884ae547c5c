"""A classifier or segmentation in a bundle: a network that other tools can build, its weights, and facts."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from miram.data.tasks import Task
from miram.errors import InputError
from miram.files import file_sha256
from miram.inference.calibrated import Calibration, calibration_of_model
from miram.inference.classifying import TrainedClassifier
from miram.networks.classifier import ViTClassifier, stock_classifier
from miram.networks.segmenter import ViTSegmenter, describes_segmenter
from miram.weights.backbone import load_weights_file

# Names in a stock network and in ours.
_STOCK_NAMES = {"features.": "encoder.", "fc.": "classification_head."}


def network_definition(network: ViTClassifier | ViTSegmenter) -> dict[str, Any]:
    """
    The network's definition in a config; if possible, it does not need this package.

    A classifier that pools the class token is a stock ViT. A stock ViT returns a tuple, but verification and export
    expect one tensor, so MONAI's `NetAdapter` selects the logits. Other pooling, layer norms of public weights, and
    segmentations need our class.

    Returns:
        a `_target_` with plain values.
    """
    if not is_stock(network):
        kind = type(network)
        return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **network.network_def}
    vit = {**network.encoder.network_def, "classification": True, "num_classes": network.num_classes}
    return {
        "_target_": "monai.networks.nets.NetAdapter",
        "model": {"_target_": "monai.networks.nets.ViT", **vit, "post_activation": ""},
        "num_classes": network.num_classes,
        "dim": network.encoder.spatial_dims,
        "pool": None,
        "fc_name": "classification_head",
    }


def is_stock(network: ViTClassifier | ViTSegmenter) -> TypeGuard[ViTClassifier]:
    """Whether :func:`network_definition` does not need this package."""
    pool, eps = getattr(network, "pool", None), network.network_def["layer_norm_eps"]
    return pool == "token" and eps == nn.LayerNorm(1).eps


def packaged_state(network: ViTClassifier | ViTSegmenter) -> dict[str, torch.Tensor]:
    """The weights with the keys of the network that :func:`network_definition` defines."""
    if not is_stock(network):
        return dict(network.state_dict())
    state = stock_classifier(network).state_dict()
    head = "classification_head."
    return {
        f"fc.{key.removeprefix(head)}" if key.startswith(head) else f"features.{key}": value
        for key, value in state.items()
    }


def saved_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """The bytes that `torch.save` writes for a state dictionary; the same weights give the same bytes."""
    stream = io.BytesIO()  # a file's name would become part of the content
    torch.save({key: value.detach().cpu().clone() for key, value in state.items()}, stream)
    return stream.getvalue()


def classifier_facts(trained: TrainedClassifier, calibration: Calibration, weights: bytes) -> dict[str, Any]:
    """
    What a packaged config says about what it packages, apart from the network, in plain values.

    Args:
        weights: content of the packaged `model.pt`; the calibration is not valid for other weights.
    """
    definition = dict(trained.network.network_def)
    if is_stock(trained.network):
        definition["feature_norm"] = False  # folded into the head
    return {
        "network_def": definition,
        "task": {"name": trained.task.name, "type": trained.task.type, "classes": list(trained.task.classes)},
        "preprocessing": trained.preprocessing,
        "scale": calibration.scale,
        "bias": calibration.bias,
        "thresholds": calibration.thresholds,
        "provenance": _without_folders(trained.provenance),
        "model_sha256": hashlib.sha256(weights).hexdigest(),
    }


def load_packaged(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> TrainedClassifier:
    """
    Load what a bundle packages, as :func:`miram.inference.classifying.load_trained` loads that of a run.

    Args:
        path: the bundle's `model.pt`, as packaged or trained further.
        facts: what :func:`classifier_facts` returned. The calibration is used only for the weights that it was fitted
            to.

    Raises:
        InputError: if the file is missing or damaged, or does not fit.
    """
    path = Path(path)
    state = {_own_name(key): value for key, value in read_state(path).items()}
    make = ViTSegmenter if describes_segmenter(facts["network_def"]) else ViTClassifier
    network: Any = make(**facts["network_def"])
    _load_strictly(network, state, path)
    digest = file_sha256(path)
    same = digest == facts["model_sha256"]
    task = facts["task"]
    return TrainedClassifier(
        path=path,
        sha256=digest,
        network=network.eval(),
        task=Task(**task),
        preprocessing=dict(facts["preprocessing"]),
        calibration=calibration_of_model(facts if same else {}, digest),
        provenance=dict(facts["provenance"]) if same else {},
    )


def load_weights(
    network: nn.Module, path: str | os.PathLike[str] | None, device: torch.device | str | None = None
) -> nn.Module:
    """
    Load a bundle's `model.pt` into the network that its config defines, in place.

    Args:
        path: the file; None or "none" leaves the network unchanged.

    Returns:
        the network.

    Raises:
        InputError: if the file is missing or damaged, or does not fit.
    """
    if path is not None and str(path).strip().lower() != "none":
        _load_strictly(network, read_state(path), path)
    return network if device is None else network.to(device)


def read_state(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The weights in a `model.pt`: a plain state dictionary, or one under "model", as MONAI Label writes it."""
    content = load_weights_file(path)
    return content.get("model", content)


def _without_folders(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Keep only the last part of absolute paths, which are private to the machine that trained."""
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in provenance.items()
    }


def _own_name(key: str) -> str:
    stock = next((name for name in _STOCK_NAMES if key.startswith(name)), None)
    return key if stock is None else _STOCK_NAMES[stock] + key.removeprefix(stock)


def _load_strictly(network: nn.Module, state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    own = network.state_dict()
    fitting = {key for key, value in state.items() if key in own and getattr(value, "shape", None) == own[key].shape}
    wrong = sorted((own.keys() | state.keys()) - fitting)
    if wrong:
        raise InputError(
            f"{path} contains weights of another network than the bundle's config defines: {len(fitting)} of "
            f"{len(own)} keys fit, {', '.join(wrong[:3])} and so on do not; give a model.pt of this bundle"
        )
    network.load_state_dict(state, strict=True)
