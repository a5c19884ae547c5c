"""What all command-line scripts share: errors with their cause and remedy, exit codes and printable paths."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from miram.errors import InputError
from miram.files import as_text
from miram.flags import given_options

INTERRUPTED = "interrupted; run the same command again: it continues where this one stopped"
REPORT = "this looks like a bug in MIRAM: please report it with the lines above"
# Patterns in messages of libraries, and what a user can do about them
_REMEDIES = {
    r"not compiled with CUDA|NVIDIA driver|No CUDA GPUs|invalid device ordinal|is_available\(\) is False": (
        "there is no such GPU here: give --device cpu, or run on a machine that has one"
    ),
    r"device type at start of device string|Invalid device string": "give --device cpu, cuda or cuda:0",
    r"out of memory|not enough memory|allocate memory": "give a smaller --batch_size, or free memory",
}
_OS_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path on a writable disk",
    errno.ENOTDIR: "a part of the path is a file: give another path",
    errno.EEXIST: "a file is in the way: give another path, or move it away",
    errno.EISDIR: "it is a folder: give the path of a file",
    errno.ENAMETOOLONG: "give a shorter path",
}


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
        print(INTERRUPTED, file=sys.stderr)
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
    """Print Python's traceback, unless a user can fix the input or has interrupted, and the cause as the last line."""
    if isinstance(error, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
        return
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


def is_bad_input(error: BaseException) -> bool:
    """Whether an error is, or comes from, an :class:`miram.errors.InputError`."""
    return any(isinstance(one, InputError) for one in _chain(error))


def explain(error: BaseException, options: Mapping[str, str | None]) -> str:
    """
    Explain a failure to the user.

    Args:
        options: of the command line, as typed; those that the failing part of a config reads are named.

    Returns:
        one line: the message of the :class:`miram.errors.InputError` that the error is or comes from, otherwise its
        first cause and a remedy.
    """
    chain = list(_chain(error))
    bad_input = next((one for one in chain if isinstance(one, InputError)), None)
    if bad_input is not None:
        return _message(bad_input)
    cause = _unwrapped(error)
    message = _message(cause).removesuffix(".")
    remedy = _remedy(cause, message) or _options_to_check(chain, options)
    if isinstance(cause, ValueError) and message:
        return f"{message}; {remedy}" if remedy else message
    told = message if isinstance(cause, OSError) and cause.strerror else f"{type(cause).__name__}: {message}"
    return f"{told.removesuffix(': ')}; {remedy or REPORT}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unwrapped(error: BaseException) -> BaseException:
    """The error inside the RuntimeError with which MONAI wraps it to print the config's component."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        text = str(error)
    if "Original Traceback" in text:  # from a loader process: its last line is "kind: message"
        text = text.strip().splitlines()[-1].partition(": ")[2] or text
    return as_text(" ".join(text.split()))


def _remedy(error: BaseException, message: str) -> str:
    if isinstance(error, OSError) and error.errno in _OS_REMEDIES:
        return _OS_REMEDIES[error.errno]
    return next((remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, message)), "")


def _options_to_check(chain: list[BaseException], options: Mapping[str, str | None]) -> str:
    """The options that occur in the failing expressions and components; "" if there are none."""
    wrappers = " ".join(str(error) for error in chain if isinstance(error, RuntimeError) and error.__cause__)
    named = [f"--{name} {value}" for name, value in options.items() if re.search(rf"\b{re.escape(name)}\b", wrappers)]
    return f"check {', '.join(named)}" if named else ""
