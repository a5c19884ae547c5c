"""Values from the command line, which may arrive as text or differ from what was typed."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from miram.errors import InputError

if TYPE_CHECKING:  # scripts read options too, and should not have to wait for the import of MONAI
    from monai.bundle import ConfigParser

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NULL = ("None", "null")  # Python's word, and the one in config files
# Config ids whose values are paths or names: always text, whatever it looks like
TEXT = (
    *("bundle_root", "dataset_dir", "packed_dir", "runs_dir", "output_dir", "ckpt_dir", "input", "boxes_csv"),
    *("model", "pretrained", "backbone", "init", "risk_model", "calibration_file", "run_name"),
    *("task", "monitor_task", "mapped_class", "mode", "split"),
)
# Those of them that may be null; for the others, None and null are names like any other
OPTIONAL_TEXT = (
    *("packed_dir", "input", "boxes_csv", "backbone", "init", "risk_model"),
    *("monitor_task", "mapped_class", "split"),
)
SIZES = ("image_size", "patch_size", "field_of_view")
LISTS = ("anchor_sizes", "blocks", "crop_tokens")  # of numbers


def flag(name: str, value: object) -> bool:
    """
    Read a flag of a config. `--resume false` arrives as the text "false", which Python would treat as true.

    Args:
        name: the flag's name in the config, for the message.
        value: True or False, 1 or 0, or one of the texts true, false, yes, no, 1, 0, in upper or lower case.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if isinstance(value, str | int) and word in _WORDS:
        return _WORDS[word]
    raise InputError(f"--{name} takes True or False, got {value!r}")


def read_command_line(text: Sequence[str] = TEXT, sizes: Sequence[str] = SIZES) -> None:
    """
    Restore the values as they were typed, where the command-line parser has changed them.

    `monai.bundle run` reads values as Python does: `2024_01` becomes a number, `exp#2` ends at the `#` (or the `#`
    becomes `::`), None does not arrive at all, and `null`, as config files call it, is a text. Call this early in a
    config's `initialize`.

    Args:
        text: ids whose values are text as it was typed. References, expressions and quoted texts are left alone.
        sizes: ids whose values are lists of whole numbers, one per axis.

    Raises:
        InputError: if an option has no value, or a size is invalid.
    """
    parser = running_parser()
    config = parser.get()
    changed = {}
    for name, typed in given_options(sys.argv[1:]).items():
        if name in config:
            value = _as_text(name, typed, config[name]) if name in text else _as_python(typed, config[name])
            if value is not config[name]:
                changed[name] = value
            if name in sizes:
                _check_size(name, value)
            if name in LISTS:
                _check_list(name, value)
    for name, value in changed.items():
        parser[name] = value
    if changed:
        parser.parse(reset=True)


def _as_text(name: str, typed: str | None, arrived: Any) -> Any:
    from fire.parser import DefaultParseValue
    from monai.bundle import ReferenceResolver

    if typed is None:
        if arrived is True:
            raise InputError(f"--{name} has no value; give one after it")
        return arrived
    if name in OPTIONAL_TEXT and typed in _NULL:
        return None
    read = DefaultParseValue(typed)
    if read is None:
        return _literal(typed)  # MONAI has dropped it
    quoted = isinstance(read, str) and typed.strip()[:1] in tuple("'\"")
    expression = typed[:1] in tuple("@$%")
    came = arrived in (read, ReferenceResolver.normalize_id(read) if isinstance(read, str) else read)
    if expression or not came:  # a value that did not come from the command line was set by other means
        return arrived
    text = read if quoted else typed
    return arrived if arrived == text else _literal(text)


def _literal(text: str) -> str:
    """A text for a config: MONAI replaces each `#` by `::`, except in the result of an expression."""
    return "$" + repr(text).replace("#", r"\x23").replace("@", r"\x40") if "#" in text else text


def _as_python(typed: str | None, arrived: Any) -> Any:
    return None if typed in _NULL else arrived


def _check_size(name: str, value: Any) -> None:
    if value is None or (isinstance(value, str) and value[:1] in tuple("@$%")):
        return
    lengths = value if isinstance(value, list | tuple) else []
    if not lengths or not all(isinstance(length, int) and length > 0 for length in lengths):
        raise InputError(
            f'--{name} is {value!r}; give one whole number of pixels per axis, such as --{name} "[224,224]"'
        )


def _check_list(name: str, value: Any) -> None:
    if value is None or (isinstance(value, str) and value[:1] in tuple("@$%")):
        return
    if not isinstance(value, list | tuple) or not all(isinstance(one, int | float) for one in value):
        raise InputError(f'--{name} is {value!r}; give a list of numbers, such as --{name} "[4,8]"')


def given_options(arguments: Sequence[str]) -> dict[str, str | None]:
    """The options of a command line as they were typed: `--name value` and `--name=value`; None if no value follows."""
    options = {}
    for argument, following in zip_longest(arguments, arguments[1:]):
        if _is_option(argument):
            name, equals, value = argument.lstrip("-").partition("=")
            has_value = following is not None and not _is_option(following)
            options[name.replace("-", "_")] = value if equals else following if has_value else None
    return options


def _is_option(argument: str) -> bool:
    return re.match("--|-[a-zA-Z]", argument) is not None


def running_parser() -> ConfigParser:
    """
    The parser of the config whose expression is being evaluated.

    MONAI gives expressions no way to refer to the config itself, so the parser is found on the call stack.

    Raises:
        InputError: if this was not called from a config.
    """
    from monai.bundle import ConfigParser

    parsers = [frame.frame.f_locals.get("self") for frame in inspect.stack(context=0)]
    parser = next((parser for parser in parsers if isinstance(parser, ConfigParser)), None)
    if parser is None:
        raise InputError("the running config is only available in the `initialize` section of a bundle's config")
    return parser
