"""What every command-line script does in the same way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from miram.errors import InputError


def main_guard(main: Callable[[], int | None]) -> None:
    """
    Run a script's `main`, and end the process as a user expects.

    Bad input (:class:`miram.errors.InputError`, a full disk, a missing file) is one line on standard error and status 2;
    Ctrl-C is status 130; anything else is a bug and keeps its traceback.
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
