"""Run the steps of a comparison one by one; those that are finished stay as they are."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from miram.comparison.floor import run_floor
from miram.comparison.plan import OUTPUTS, ROOT, Step, identity, run_overrides
from miram.comparison.settings import Settings
from miram.errors import InputError
from miram.files import write_text

logger = logging.getLogger(__name__)

Runner = Callable[[Step, Settings], None]


def run_plan(plan: Sequence[Step], settings: Settings, runner: Runner | None = None) -> None:
    """
    Run every step that is not finished.

    A step leaves `arguments.json` when it starts and `finished.json` when it has ended well. One that was interrupted
    runs again, and continues from its own checkpoint.

    Args:
        plan: the steps in order.
        settings: of the comparison.
        runner: runs a step; :func:`run_step` if None.

    Raises:
        InputError: if a step fails, or was begun with other arguments.
    """
    check_arguments(plan, settings)
    for number, step in enumerate(plan, 1):
        if is_finished(step, settings):
            logger.info("%d/%d %s: finished before", number, len(plan), step.name)
            continue
        logger.info("%d/%d %s", number, len(plan), step.name)
        started = time.perf_counter()
        _write_json(_folder(step, settings) / "arguments.json", identity(step, settings))
        (runner or run_step)(step, settings)
        output = _folder(step, settings) / OUTPUTS[step.stage]
        if not output.is_file():
            raise InputError(f"{step.name} ended without {output}; its log is {log_path(step, settings)}")
        seconds = round(time.perf_counter() - started, 3)
        _write_json(_folder(step, settings) / "finished.json", {"seconds": seconds})


def check_arguments(plan: Sequence[Step], settings: Settings) -> None:
    """
    Refuse to mix runs that were made with different arguments.

    Raises:
        InputError: naming the folders of steps that were begun with other configs, overrides or data.
    """
    stale: dict[Path, str] = {}
    for step in plan:
        path = _folder(step, settings) / "arguments.json"
        changed = _changes(json.loads(path.read_text(encoding="utf-8")), step, settings) if path.is_file() else ""
        if changed:
            stale[path.parent] = changed
    if stale:
        folder, changed = next(iter(stale.items()))
        raise InputError(
            f"{len(stale)} steps were begun with other arguments, configs or data, the first is {folder}, whose "
            f"{changed} changed since; give another --output_dir, or remove these folders to make them anew"
        )


def _changes(old: dict[str, Any], step: Step, settings: Settings) -> str:
    """In words, what of a step's identity is another now."""
    words = {"config_sha256": "config", "datalist_sha256": "data list", "after": "step before"}
    new = identity(step, settings)
    return ", ".join(words.get(key, key) for key in new if new[key] != old.get(key))


def is_finished(step: Step, settings: Settings) -> bool:
    """Whether the step has ended well; :func:`check_arguments` tells whether with the same arguments."""
    folder = _folder(step, settings)
    return (folder / "finished.json").is_file() and (folder / OUTPUTS[step.stage]).is_file()


def run_step(step: Step, settings: Settings) -> None:
    """
    Run a step to its end: a floor in this process, anything else as a user does, as a bundle.

    Raises:
        InputError: if it fails; the message names its log and quotes the last line.
    """
    if step.task is not None and step.label_fraction is not None and step.stage == "floor":
        run_floor(settings.dataset_dir, _folder(step, settings), step.task, step.label_fraction, step.seed)
        return
    overrides = _folder(step, settings) / "overrides.yaml"
    write_text(overrides, yaml.safe_dump(run_overrides(step, settings), sort_keys=False))
    log = log_path(step, settings)
    with open(log, "a", encoding="utf-8") as stream:
        done = subprocess.run(
            command_of(step, overrides), cwd=ROOT, env=_environment(), stdout=stream, stderr=subprocess.STDOUT
        )
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise InputError(f"{step.name} failed; its log is {log}, which ends with: {lines[-1] if lines else ''}")


def command_of(step: Step, overrides: Path) -> list[str]:
    """The command of a step; `overrides` is the config file that holds its own values."""
    workflow = "evaluating" if step.stage == "evaluate" else "training"
    files = [str(path) for path in (*step.configs, overrides.resolve())]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", str(files)]


def log_path(step: Step, settings: Settings) -> Path:
    """What a step printed."""
    return _folder(step, settings) / "log.txt"


def _folder(step: Step, settings: Settings) -> Path:
    return settings.output_dir / step.name


def _environment() -> dict[str, str]:
    """This process's, in which the package is found wherever the script was started."""
    paths = [str(ROOT / "bundle"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
