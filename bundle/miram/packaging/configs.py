"""Make a packaged config: our YAML with its overlays, and the trained network's values, as one JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

_IMPORT = re.compile(r"\$from (miram[\w.]*) import (\w+)")


def make_config(folder: Path, names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Make a packaged config.

    Args:
        folder: the folder of our YAML.
        names: the files without suffix. The first is a workflow; the others are overlays. They may set nested ids,
            `_append_` adds entries to lists by their id, and `_remove_` lists top-level ids that a package does not
            need.
        values: values of ids, set last. Ids that the config does not have are ignored.

    Returns:
        the content, unresolved.
    """
    parser = ConfigParser(ConfigParser.load_config_file(folder / f"{names[0]}.yaml"))
    removed: list[str] = []
    for name in names[1:]:
        overlay = ConfigParser.load_config_file(folder / f"{name}.yaml")
        removed += overlay.pop("_remove_", [])
        for key, entries in overlay.pop("_append_", {}).items():
            parser[key] = [*parser[key], *entries]
        for key, value in overlay.items():
            parser[key] = value
    config = parser.get()
    config.update({key: value for key, value in values.items() if key in config})
    return run_in_one_section(without_early_imports({key: config[key] for key in config if key not in removed}))


def without_early_imports(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn each `$from miram.x import y` into an id `y`, and each call `y(...)` into a call `@y(...)`.

    MONAI evaluates all imports with the first id that it looks up, but an id only when it is referred to. So tools
    that only use `network_def` do not need this package.

    Args:
        config: unresolved content.
    """
    found = [_IMPORT.fullmatch(line) for line in config.get("imports", [])]
    functions = {match[2]: f"{match[1]}.{match[2]}" for match in found if match}
    if not functions:
        return dict(config)
    calls = re.compile(rf"(?<![\w.@])({'|'.join(functions)})\(")
    rewritten = _rewrite(config, calls)
    rewritten["imports"] = [line for line in config["imports"] if not _IMPORT.fullmatch(line)]
    return {**rewritten, **{name: {"_target_": path, "_mode_": "callable"} for name, path in functions.items()}}


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


def _rewrite(content: Any, calls: re.Pattern[str]) -> Any:
    if isinstance(content, Mapping):
        return {key: _rewrite(value, calls) for key, value in content.items()}
    if isinstance(content, list):
        return [_rewrite(value, calls) for value in content]
    return calls.sub(r"@\1(", content) if isinstance(content, str) and content.startswith("$") else content
