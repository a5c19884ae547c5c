"""What every command-line script does in the same way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType

from miram.errors import InputError


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
    Let an error that a user can mend end the process with one line, also where a library has wrapped it in its own.

    `monai.bundle run` wraps what goes wrong in a config's component in a `RuntimeError` that prints the component; call
    this first in a config's `initialize`. Errors of other kinds keep their traceback.
    """
    sys.excepthook = _print_input_error


def _print_input_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the message of the input error that `error` is, or comes from; else what Python prints."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            print(f"error: {cause}", file=sys.stderr)
            return
        cause = cause.__cause__ or cause.__context__
    sys.__excepthook__(kind, error, trace)
