"""What the last line of a failure says."""

import errno

import pytest

from miram.causes import REPORT, explain
from miram.errors import InputError


def wrapped(cause: Exception, component: str = "") -> Exception:
    """As MONAI wraps it."""
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError(f"Failed to evaluate ConfigExpression: {component}") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.png is empty; copy it again"), "a.png is empty; copy it again"),
        (ValueError("scale 1.3\ngives no grid"), "scale 1.3 gives no grid"),
        (
            AssertionError("Torch not compiled with CUDA enabled"),
            "AssertionError: Torch not compiled with CUDA enabled; there is no such GPU here: give --device cpu, or "
            "run on a machine that has one",
        ),
        (
            RuntimeError("Expected one of cpu, cuda device type at start of device string: gpu"),
            "RuntimeError: Expected one of cpu, cuda device type at start of device string: gpu; give --device cpu, "
            "cuda or cuda:0",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs"),
            "runs: Permission denied; change its permissions, or give another path",
        ),
        (OSError("no number"), f"OSError: no number; {REPORT}"),
        (AssertionError(), f"AssertionError; {REPORT}"),
        (KeyError("x"), f"KeyError: 'x'; {REPORT}"),
    ],
)
def test_it_is_the_cause_and_the_remedy_on_one_line(error, line):
    assert explain(error, {}) == line
    assert explain(wrapped(error), {}) == line


def test_the_options_that_the_failing_part_reads_are_named():
    error = wrapped(TypeError("'int' object is not iterable"), "$[size for size in __local_refs['image_size']]")
    line = explain(error, {"image_size": "32", "size": "1", "batch_size": "2"})
    assert line == "TypeError: 'int' object is not iterable; check --image_size 32, --size 1"
    assert explain(error, {"batch_size": "2"}) == f"TypeError: 'int' object is not iterable; {REPORT}"


def test_an_error_of_a_loaders_process_is_the_one_that_it_had():
    text = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    assert explain(InputError(f"{text}miram.errors.InputError: a.png: is empty\n"), {}) == "a.png: is empty"


def test_what_a_handler_of_an_error_raised_does_not_hide_the_input():
    error = KeyError("clean-up")
    error.__context__ = InputError("a.png is empty")
    assert explain(error, {}) == "a.png is empty"
