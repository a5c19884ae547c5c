"""Values from the command line, which may arrive as text, or as something else than was typed."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from miram.errors import InputError

if TYPE_CHECKING:  # scripts read options, too, and need not wait for MONAI
    from monai.bundle import ConfigParser

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# Ids of configs whose values are paths or names: text, whatever it looks like
TEXT = (
    *("bundle_root", "dataset_dir", "runs_dir", "output_dir", "ckpt_dir", "input"),
    *("model", "pretrained", "calibration_file", "run_name"),
    *("task", "monitor_task", "mapped_class", "mode", "split"),
)
SIZES = ("image_size", "patch_size", "field_of_view")


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


def read_command_line(text: Sequence[str] = TEXT, sizes: Sequence[str] = SIZES) -> None:
    """
    Give a config the values that were typed, where the command line's reader has made something else of them.

    `monai.bundle run` reads values as Python does: `2024_01` is a number to it, `exp#2` ends at the `#` (and where it
    does not, that becomes `::`), and None does not arrive at all. Call this early in a config's `initialize`.

    Args:
        text: ids whose values are text as it was typed. References, expressions and quoted texts stay what they are.
        sizes: ids that are lists of whole numbers, one an axis.

    Raises:
        InputError: if an option has no value, or a size is not one.
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
    for name, value in changed.items():
        parser[name] = value
    if changed:
        parser.parse(reset=True)


def _as_text(name: str, typed: str | None, arrived: Any) -> Any:
    from fire.parser import DefaultParseValue
    from monai.bundle import ReferenceResolver

    if typed is None:
        if arrived is True:
            raise InputError(f"--{name} has no value; type one behind it")
        return arrived
    read = DefaultParseValue(typed)
    if read is None:
        return None if name == "monitor_task" else _literal(typed)  # MONAI has left it out
    quoted = isinstance(read, str) and typed.strip()[:1] in tuple("'\"")
    expression = typed[:1] in tuple("@$%")
    came = arrived in (read, ReferenceResolver.normalize_id(read) if isinstance(read, str) else read)
    if expression or not came:  # what did not come from here was set by other means
        return arrived
    text = read if quoted else typed
    return arrived if arrived == text else _literal(text)


def _literal(text: str) -> str:
    """A text as a config holds it: MONAI takes each `#` for its `::`, but not one that an expression makes."""
    return "$" + repr(text).replace("#", r"\x23").replace("@", r"\x40") if "#" in text else text


def _as_python(typed: str | None, arrived: Any) -> Any:
    return None if typed == "None" else arrived


def _check_size(name: str, value: Any) -> None:
    if value is None or (isinstance(value, str) and value[:1] in tuple("@$%")):
        return
    lengths = value if isinstance(value, list | tuple) else []
    if not lengths or not all(isinstance(length, int) and length > 0 for length in lengths):
        raise InputError(
            f'--{name} is {value!r}; give a whole number of pixels for each axis, such as --{name} "[224,224]"'
        )


def given_options(arguments: Sequence[str]) -> dict[str, str | None]:
    """
    The options of a command line as they were typed: `--name value` and `--name=value`; None where no value follows.
    """
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

    MONAI gives a config's expressions no name for the config itself: it is found among the callers.

    Raises:
        InputError: if this was not called from a config.
    """
    from monai.bundle import ConfigParser

    parsers = [frame.frame.f_locals.get("self") for frame in inspect.stack(context=0)]
    parser = next((parser for parser in parsers if isinstance(parser, ConfigParser)), None)
    if parser is None:
        raise InputError("the running config is to be had in the `initialize` section of a bundle's config only")
    return parser
