"""What every command-line script does in the same way."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
from collections.abc import Callable
from types import TracebackType

from miram.causes import explain, is_bad_input
from miram.errors import InputError
from miram.files import as_text
from miram.flags import given_options


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
    2; Ctrl-C is status 130; anything else keeps its traceback, and its cause comes last.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _let_any_name_be_printed()
    try:
        sys.exit(main() or 0)
    except (InputError, OSError) as error:
        _print_cause(error)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        sys.exit(130)
    except Exception:
        explain_errors()
        raise


def explain_errors() -> None:
    """
    Let the cause of a failed run and its remedy be the last line, also where a library has wrapped it in its own error.

    `monai.bundle run` wraps what goes wrong in a config's component in a `RuntimeError` that prints the component;
    call this first in a config's `initialize`. An :class:`miram.errors.InputError` is then one line and nothing else;
    any other failure keeps its traceback before the line.
    """
    _let_any_name_be_printed()
    sys.excepthook = _print_error


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what Python prints, unless a user can mend the input, and the cause as the last line."""
    if not is_bad_input(error):
        sys.__excepthook__(kind, error, trace)
    if isinstance(error, Exception):
        _print_cause(error)


def _print_cause(error: BaseException) -> None:
    sys.stdout.flush()
    print(f"error: {explain(error, given_options(sys.argv[1:]))}", file=sys.stderr)


def _let_any_name_be_printed() -> None:
    """Show bytes of file names that are not UTF-8 as escapes, where Python would stop in the middle of a summary."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
