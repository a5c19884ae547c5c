"""What every command-line script does in the same way."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable
from types import TracebackType

from miram.errors import InputError
from miram.files import as_text


def shell_path(path: str | os.PathLike[str]) -> str:
    """
    A path as it is typed behind an option of `monai.bundle run`: quoted for the shell where it must be.

    One that begins as MONAI's references, macros and expressions do, as an option, or as a Python text, gets `./`.
    """
    text = as_text(path)
    return shlex.quote(f"./{text}" if text[:1] in tuple("@%$-'\"") else text)


def main_guard(main: Callable[[], int | None]) -> None:
    """
    Run a script's `main`, and end the process as a user expects.

    Bad input (:class:`miram.errors.InputError`, a full disk, a missing file) is one line on standard error and status
    2; Ctrl-C is status 130; anything else is a bug and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.exit(main() or 0)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        sys.exit(130)


def explain_errors() -> None:
    """
    Let what a user can mend be the last line of a failed run, also where a library has wrapped it in its own error.

    `monai.bundle run` wraps what goes wrong in a config's component in a `RuntimeError` that prints the component;
    call this first in a config's `initialize`. An :class:`InputError` is then one line and nothing else. A
    `ValueError`, which networks raise for arguments that do not fit as MONAI's do, keeps its traceback, and its
    message comes last.
    """
    sys.excepthook = _print_error


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the input error that `error` is or comes from; else what Python prints, and the first cause again."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    bad_input = next((cause for cause in causes if isinstance(cause, InputError)), None)
    if bad_input is None:
        sys.__excepthook__(kind, error, trace)
    bad_value = causes[-1] if isinstance(causes[-1], ValueError) else None
    if bad_input or bad_value:
        print(f"error: {bad_input or bad_value}", file=sys.stderr)
