"""The provenance of a result: versions, commit and config."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import miram
from miram.provenance.executed_config import config_sha256


def provenance(**facts: Any) -> dict[str, Any]:
    """
    How a file was made: this package's version and commit, the libraries, the config, and other facts of the run.

    Args:
        facts: plain values, such as the seed and what :func:`miram.data.datalist.describe` says about the data.

    Returns:
        plain values. "commit" ends in "-dirty" if the checkout had changes; "config_sha256" is that of the run's
        executed_config.yaml.
    """
    return {
        "miram": miram.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": _libraries(),
        "config_sha256": config_sha256(),
        **facts,
    }


def _libraries() -> dict[str, str]:
    """The versions of the installed packages that this one requires."""
    try:
        required = metadata.requires("miram") or []
    except metadata.PackageNotFoundError:  # used from a folder on the path, without installation
        required = ["torch", "monai", "pytorch-ignite", "numpy"]
    return installed(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line)


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _commit() -> str | None:
    """The git commit of this package's checkout, if the package is tracked in one."""
    folder = str(Path(miram.__file__).parent)
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: str, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
