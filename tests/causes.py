"""The error behind one that MONAI raises."""

from __future__ import annotations

from miram.errors import InputError


def cause_of(error: BaseException, kind: type[BaseException] = InputError) -> str:
    """The message of the first error of a kind in the chain; of an input error, the line that a user gets."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None, f"no {kind.__name__} behind {error!r}"
    return str(cause)
