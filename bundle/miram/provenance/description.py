"""Describe a file: a checkpoint, a backbone, a classifier, a packaged bundle's model, or metrics."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from miram.errors import InputError
from miram.files import file_sha256
from miram.weights.backbone import load_weights_file

# Keys that each kind of dictionary has, the most specific kind first
_KINDS = {
    "checkpoint of a run": {"network", "optimizer", "iteration"},
    "classifier": {"network_def", "state_dict", "task"},
    "backbone": {"network_def", "state_dict", "cls_token"},
    "classifier of examinations": {"exam_network_def", "exam_state_dict"},
    "detector": {"detector_network_def", "detector_state_dict"},
}
_WEIGHTS = ("network", "optimizer", "average", "cls_token")
_STATES = ("each_process", "scaler", "schedule")


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Find out what a file is and where it comes from. Nothing in it is executed.

    Args:
        path: one of our `.pt` files, a packaged bundle's `model.pt` or folder, or a JSON file with "provenance", such
            as metrics.json.

    Returns:
        "file", "kind", "sha256" and "bytes"; "parameters" of weights; the file's plain values; "provenance".

    Raises:
        InputError: if there is no such file, it is damaged, or it does not say where it comes from.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "models/model.pt"
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a checkpoint.pt, a backbone.pt, a model (.pt) or metrics.json")
    try:
        kind, content = _read_json(path) if path.suffix == ".json" else _read_weights(path)
    except (AttributeError, LookupError, RecursionError, TypeError) as error:
        raise InputError(
            f"{path} is damaged: its parts do not have the expected types ({type(error).__name__})"
        ) from error
    provenance = content.pop("provenance", None)
    if provenance is None:
        raise InputError(f"{path} does not say where it comes from: it has no provenance")
    file = {
        "file": str(path),
        "kind": kind,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
    }
    return {**file, **content, "provenance": provenance}


def readable(description: Mapping[str, Any]) -> str:
    """A description as text, one fact per line, with nested facts indented."""
    return "\n".join(_lines(description))


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    width = max((len(str(name)) for name, value in facts.items() if not _nested(value)), default=0)
    for name, value in facts.items():
        if _nested(value):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            shown = "unknown" if value is None else f"{value:.6g}" if isinstance(value, float) else value
            yield f"{indent}{name!s:{width}}  {shown}"


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _read_json(path: Path) -> tuple[str, dict[str, Any]]:
    """What a report's JSON file contains besides its figures."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} contains a {type(content).__name__}, not a description")
    kept = ("task", "data", "model", "calibration", "notes", "provenance")
    return "results", {name: content[name] for name in kept if name in content}


def _read_weights(path: Path) -> tuple[str, dict[str, Any]]:
    """What a file of weights contains besides them."""
    content = load_weights_file(path)
    kind = next((kind for kind, keys in _KINDS.items() if keys <= content.keys()), None)
    if kind is None:
        return _of_bundle(path, content)
    weights = [name for name in content if name.endswith("state_dict")] or ["network"]
    facts = {name: value for name, value in content.items() if name not in (*weights, *_WEIGHTS, *_STATES)}
    return kind, {"parameters": sum(_parameters(content[name]) for name in weights), **facts}


def _of_bundle(path: Path, state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A packaged bundle's file has only weights; its config describes them."""
    config = path.parent.parent / "configs/inference.json"
    facts = json.loads(config.read_text(encoding="utf-8")).get("facts") if config.is_file() else None
    if facts is None:
        return "weights", {}
    if facts["model_sha256"] != file_sha256(path):
        raise InputError(f"{path} was trained after its bundle was packaged: {config} describes other weights")
    return "model of a packaged bundle", {"parameters": _parameters(state.get("model", state)), **facts}


def _parameters(state: Mapping[str, torch.Tensor]) -> int:
    return sum(math.prod(value.shape) for value in state.values())
