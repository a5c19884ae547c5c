"""Export a backbone as a folder that timm, Hugging Face or stock MONAI loads."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from miram.errors import InputError
from miram.packaging.archive import replace_folder
from miram.packaging.weights import saved_bytes
from miram.weights.backbone import load_backbone, resize_backbone
from miram.weights.foreign_formats import convert_backbone

_WEIGHTS = {"timm": "model.safetensors", "huggingface": "model.safetensors", "monai": "model.pt"}
_OURS = {*_WEIGHTS.values(), "config.json", "preprocessor_config.json"}


def export_backbone(
    path: str | os.PathLike[str],
    format: str,
    output_dir: str | os.PathLike[str],
    image_size: Sequence[int] | None = None,
) -> Path:
    """
    Write a backbone as a folder with config and weights, completely or not at all. An earlier export is replaced.

    Args:
        path: the `backbone.pt` of a pretraining run.
        format: one of :data:`miram.weights.foreign_formats.FORMATS`.
        image_size: in pixels, one per spatial dimension; None for that of pretraining.

    Returns:
        the folder.

    Raises:
        InputError: if the file is not a backbone, does not fit the format or the size, or the folder contains other
            files.
    """
    folder = Path(output_dir)
    _check_replaceable(folder)
    backbone = load_backbone(path)
    if image_size is not None:
        backbone = resize_backbone(backbone, image_size)
    configs, state = convert_backbone(backbone, format)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new = Path(temporary) / folder.name
        new.mkdir()
        (new / _WEIGHTS[format]).write_bytes(_weights(state, _WEIGHTS[format]))
        for name, config in configs.items():
            (new / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        replace_folder(new, folder)
    return folder


def _check_replaceable(folder: Path) -> None:
    """
    Check that a folder may be replaced: it does not exist, is empty, or contains only an earlier export.

    Raises:
        InputError: if it may not.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    files = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if not files or files - _OURS or "miram" not in _config(folder / "config.json"):
        raise InputError(
            f"{folder} exists and is not an export of a backbone: move it away, or give another --output_dir"
        )


def _config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _weights(state: Mapping[str, torch.Tensor], name: str) -> bytes:
    """The content of a weights file."""
    if name.endswith(".pt"):
        return saved_bytes(state)
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise InputError("this format needs the package safetensors: pip install safetensors") from error
    return save(dict(state), metadata={"format": "pt"})
