"""The executed config: checked for unused options, and saved with the run's outputs."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ignite.engine import Engine, Events

from miram.engines.distributed import is_main_process
from miram.errors import InputError
from miram.files import write_text
from miram.flags import given_options, running_parser

logger = logging.getLogger(__name__)


def check_command_line() -> None:
    """
    Refuse options of the command line that nothing in the running config reads (:func:`check_options`).

    Raises:
        InputError: if this was not called from a config, or there is such an option.
    """
    check_options(running_config(), sys.argv)


def save_executed_config(output_dir: str | os.PathLike[str], engine: Engine | None = None) -> None:
    """
    Write the executed config, with all files merged and all overrides applied, to the run's folder.

    Args:
        engine: the file is written when it starts, after its other handlers: a run that is refused before leaves the
            config of an earlier run in the same folder as it is. Without an engine the file is written at once.

    Raises:
        InputError: if this was not called from a config.
    """
    if not is_main_process():
        return
    path, text = Path(output_dir) / "executed_config.yaml", _text(running_config())
    if engine is None:
        write_text(path, text)
    else:
        engine.add_event_handler(Events.STARTED, lambda: write_text(path, text))


def config_sha256() -> str | None:
    """The SHA-256 of the executed config as :func:`save_executed_config` writes it; None outside of a config."""
    try:
        return hashlib.sha256(_text(running_config()).encode()).hexdigest()
    except InputError:
        return None


def _text(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, width=120)


def running_config() -> dict[str, Any]:
    """
    The config whose expression is being evaluated, unresolved.

    Raises:
        InputError: if this was not called from a config.
    """
    return {key: value for key, value in running_parser().get().items() if key != "_meta_"}


def check_options(config: dict[str, Any], arguments: Sequence[str]) -> None:
    """
    Refuse an option that nothing reads: MONAI treats a misspelt option as a new id, and the run would ignore it.

    One that only other given options would have read (`--runs_dir` beside `--output_dir`) is left out with a warning.

    Args:
        arguments: the command line; the config must refer (`@id`) to every id that it sets (`--id value`). Overlays
            may set ids that only other workflows read.

    Raises:
        InputError: with the option, and the most similar known one.
    """
    options = given_options(arguments)
    read = _references(config)
    given = {re.split("[#:]", name)[0] for name in options}
    unread = (given & config.keys()) - read
    files = _read_files(options.get("config_file")) if unread else {}
    for key in sorted(unread):
        instead = sorted(name for name in given & files.keys() if key in _references(files[name]))
        if instead:
            logger.warning("--%s has no effect here: --%s says it instead", key, " and --".join(instead))
            continue
        like = difflib.get_close_matches(key, read, n=1)
        hint = f"did you mean --{like[0]}?" if like else "the options are the top-level ids of the config files"
        raise InputError(f"--{key} is not an option of this workflow; {hint}")


def _references(config: Any) -> set[str]:
    return set(re.findall(r"@(\w+)", yaml.safe_dump(config, width=10**6)))


def _read_files(config_file: str | None) -> dict[str, Any]:
    """The config files without what the command line changes."""
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    return ConfigParser.load_config_files(DefaultParseValue(config_file)) if config_file else {}
