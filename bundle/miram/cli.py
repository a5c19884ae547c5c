"""What all command-line scripts share: errors, exit codes and printable paths."""

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
    A path as it is typed after an option of `monai.bundle run`, quoted for the shell if necessary.

    It gets `./` in front if it starts like a MONAI reference, macro or expression, an option, or a Python string.
    """
    text = as_text(path)
    return shlex.quote(f"./{text}" if text[:1] in tuple("@%$-'\"") else text)


def main_guard(main: Callable[[], int | None]) -> None:
    """
    Run a script's `main`, and exit with a message and status that users expect.

    Bad input (:class:`miram.errors.InputError`, a full disk, a missing file) prints one line to standard error and
    exits with status 2; Ctrl-C exits with status 130; anything else keeps its traceback, with its cause at the end.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _let_any_name_be_printed()
    try:
        sys.exit(main() or 0)
    except (InputError, OSError) as error:
        _print_cause(error)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; run the same command again: it continues where this one stopped", file=sys.stderr)
        sys.exit(130)
    except Exception:
        explain_errors()
        raise


def explain_errors() -> None:
    """
    Make the cause of a failed run and its remedy the last line, even if a library has wrapped it in its own error.

    `monai.bundle run` wraps an error in a config's component in a `RuntimeError` that prints the component. Call this
    first in a config's `initialize`. An :class:`miram.errors.InputError` is then printed as a single line; any other
    failure keeps its traceback before that line.
    """
    _let_any_name_be_printed()
    sys.excepthook = _print_error


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print Python's traceback, unless a user can fix the input, and the cause as the last line."""
    if not is_bad_input(error):
        sys.__excepthook__(kind, error, trace)
    if isinstance(error, Exception):
        _print_cause(error)


def _print_cause(error: BaseException) -> None:
    sys.stdout.flush()
    print(f"error: {explain(error, given_options(sys.argv[1:]))}", file=sys.stderr)


def _let_any_name_be_printed() -> None:
    """Print bytes of file names that are not UTF-8 as escapes, where Python would fail in the middle of a summary."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
