"""What a fuzz test asks of a file that is used: success, or our own error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from miram.errors import InputError


def problem(use: Callable[[Path], object], path: Path) -> str:
    """The message of our own error; where there is none, the path."""
    try:
        use(path)
    except InputError as error:
        return str(error)
    return str(path)
