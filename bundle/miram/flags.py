"""Values from the command line, which may arrive as text."""

from __future__ import annotations

from miram.errors import InputError

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def flag(name: str, value: object) -> bool:
    """
    Read a flag of a config. `--resume false` arrives as the text "false", which Python takes for true.

    Args:
        name: the flag's name in the config, for the message.
        value: True or False, 1 or 0, or a text that says so in any case: true, false, yes, no, 1, 0.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if isinstance(value, str | int) and word in _WORDS:
        return _WORDS[word]
    raise InputError(f"--{name} takes True or False, got {value!r}")
