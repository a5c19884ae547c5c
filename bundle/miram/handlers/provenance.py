"""Where a result comes from: versions and commit."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import monai
import torch

import miram


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
