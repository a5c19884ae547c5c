"""The config that is being run: checked for options that nothing reads, and kept with the run's outputs."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from miram.engines.distributed import is_main_process
from miram.errors import InputError
from miram.files import write_text


def save_executed_config(output_dir: str | os.PathLike[str], name: str = "executed_config.yaml") -> None:
    """
    Write the config that is being run, all files merged and all overrides applied, to the run's folder.

    Args:
        output_dir: the folder of the run.
        name: name of the file.

    Raises:
        InputError: if this was not called from a config, or an option was given that nothing reads.
    """
    config = running_config()
    check_options(config, sys.argv)
    if is_main_process():
        write_text(Path(output_dir) / name, _text(config))


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

    MONAI gives a config's expressions no name for the config itself: it is found as the parser that evaluates them.

    Raises:
        InputError: if this was not called from a config.
    """
    parsers = [frame.frame.f_locals.get("self") for frame in inspect.stack(context=0)]
    parser = next((parser for parser in parsers if isinstance(parser, ConfigParser)), None)
    if parser is None:
        raise InputError("the running config is to be had in the `initialize` section of a bundle's config only")
    return {key: value for key, value in parser.get().items() if key != "_meta_"}


def check_options(config: dict[str, Any], arguments: Sequence[str]) -> None:
    """
    Refuse an option that nothing reads: MONAI takes a misspelt one for a new id, and the run ignores it.

    Args:
        config: a config's content.
        arguments: the command line; what it sets (`--id value`) must be referred to somewhere in the config (`@id`).
            Overlays may set what only other workflows read.

    Raises:
        InputError: naming the option, and the one it is most like.
    """
    read = set(re.findall(r"@(\w+)", yaml.safe_dump(config, width=10**6)))
    given = {re.split(r"[=#:]", argument[2:])[0] for argument in arguments if argument.startswith("--")}
    for key in (given & config.keys()) - read:
        like = difflib.get_close_matches(key, read, n=1)
        hint = f"did you mean --{like[0]}?" if like else "the options are the top-level ids of the config files"
        raise InputError(f"--{key} is no option of this workflow; {hint}")
