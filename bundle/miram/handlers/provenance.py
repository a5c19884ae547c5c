"""Where a result comes from: versions, commit, and the config that ran."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import monai
import torch
import yaml
from monai.bundle import ConfigParser

import miram
from miram.engines.distributed import is_main_process
from miram.errors import InputError
from miram.files import write_text


def provenance(**facts: Any) -> dict[str, Any]:
    """
    Versions and commit, with further facts of the run.

    Args:
        facts: plain values, such as the seed and the name of the data set.
    """
    return {
        "miram": miram.__version__,
        "commit": _commit(),
        "torch": str(torch.__version__),
        "monai": str(monai.__version__),
        "python": platform.python_version(),
        **facts,
    }


def _commit() -> str | None:
    """The git commit of this package's checkout, if it lies in one."""
    command = ["git", "-C", str(Path(miram.__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def save_executed_config(output_dir: str | os.PathLike[str], name: str = "executed_config.yaml") -> None:
    """
    Write the config that is being run, all files merged and all overrides applied, to the run's folder.

    MONAI hands a config's expressions no name for the config itself; it is found as the parser that evaluates this
    call.

    Args:
        output_dir: the folder of the run.
        name: name of the file.

    Raises:
        InputError: if this was not called from a config.
    """
    parsers = [frame.frame.f_locals.get("self") for frame in inspect.stack()]
    parser = next((parser for parser in parsers if isinstance(parser, ConfigParser)), None)
    if parser is None:
        raise InputError("save_executed_config is for the `initialize` section of a bundle's config")
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    if is_main_process():
        write_text(Path(output_dir) / name, yaml.safe_dump(config, sort_keys=False, width=120))
