"""The rules that MONAI's model zoo checks of a bundle, and those that its guide states, in our own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

FILES = ["LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt"]
GUIDE_FILES = ["docs/README.md", "docs/data_license.txt"]
INFERENCE_KEYS = ["bundle_root", "device", "network_def", "inferer", "output_dir"]
TRAIN_KEYS = [
    "bundle_root",
    "device",
    "dataset_dir",
    "output_dir",
    "val_interval",
    *(f"train#{key}" for key in ("trainer", "trainer#max_epochs", "dataset", "dataset#data", "handlers")),
    *(f"train#{key}" for key in ("preprocessing", "inferer")),
    *(f"validate#{key}" for key in ("evaluator", "handlers", "dataset", "dataset#data")),
    *(f"validate#{key}" for key in ("preprocessing", "inferer", "key_metric")),
]


def broken_rules(bundle: Path, published: tuple[str, ...] = ()) -> list[str]:
    """
    What the zoo would say against a bundle, modes min and regular, and its guide; empty is well.

    Args:
        bundle: its folder.
        published: names with version (`name_v0.1.0`) that the zoo has already.
    """
    missing = [f"no {name}" for name in [*FILES, *GUIDE_FILES] if not (bundle / name).is_file()]
    return missing or [*_version(bundle, published), *_keys(bundle)]


def _version(bundle: Path, published: tuple[str, ...]) -> Iterator[str]:
    metadata = _read(bundle, "metadata")
    version = metadata.get("version")
    if version not in metadata.get("changelog", {}):
        yield f"version {version} is not in the changelog"
    if f"{bundle.name}_v{version}" in published:
        yield f"version {version} is published already"


def _keys(bundle: Path) -> Iterator[str]:
    for name, keys in {"inference": INFERENCE_KEYS, "train": TRAIN_KEYS}.items():
        parser = ConfigParser(_read(bundle, name))
        yield from (f"{name}.json has no {key}" for key in keys if key not in parser)


def _read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / f"configs/{name}.json").read_text())
