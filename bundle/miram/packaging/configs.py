"""Make a packaged config: our YAML with its overlays, and the trained network's values, as one JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def make_config(
    folder: Path, names: Sequence[str], values: Mapping[str, Any], without: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Make a packaged config.

    Args:
        folder: the folder of our YAML.
        names: the files without suffix: a workflow, then overlays.
        values: values of ids, set last. Ids that the config does not have are ignored.
        without: top-level ids that a package does not need.

    Returns:
        the content, unresolved.
    """
    config = ConfigParser.load_config_files([folder / f"{name}.yaml" for name in names])
    config |= {key: value for key, value in values.items() if key in config}
    return run_in_one_section({key: value for key, value in config.items() if key not in without})


def run_in_one_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Move `initialize` to the start of `run`: MONAI finds the bundle's code only after `run` starts.

    Args:
        config: unresolved content.
    """
    moved = dict(config)
    if "run" in moved:
        moved["run"] = [*moved.pop("initialize", []), *moved["run"]]
    return moved


def to_json(content: Mapping[str, Any]) -> str:
    """JSON as in MONAI's configs: indented by four spaces, in the given order."""
    return json.dumps(content, indent=4) + "\n"
