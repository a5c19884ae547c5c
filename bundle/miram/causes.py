"""The last line of a failure: its cause and remedy, however libraries have wrapped it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping

from miram.errors import InputError
from miram.files import as_text

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


def is_bad_input(error: BaseException) -> bool:
    """Whether an error is, or comes from, an :class:`miram.errors.InputError`."""
    return any(isinstance(one, InputError) for one in _chain(error))


def explain(error: BaseException, options: Mapping[str, str | None]) -> str:
    """
    Explain a failure to the user.

    Args:
        error: the exception.
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
    message = _message(cause)
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
