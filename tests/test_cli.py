import errno
import subprocess
import sys
from pathlib import Path

import pytest

from miram.cli import INTERRUPTED, REPORT, explain, explain_errors, main_guard, shell_path
from miram.errors import InputError

IN_THE_WAY = "a file is in the way: give another path, or move it away"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("a.dcm is empty; download it again"), 2, "error: a.dcm is empty"),
        (OSError(28, "No space left on device", "crop.png"), 2, "No space left"),
        (KeyboardInterrupt(), 130, "continues where"),
    ],
)
def test_errors_end_with_one_line_and_a_status(error, status, said, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stopped:
        main_guard(main)
    assert stopped.value.code == status
    assert said in capsys.readouterr().err


def test_an_interrupted_workflow_says_how_to_go_on_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    explain_errors()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == INTERRUPTED + "\n"


def test_a_bug_keeps_its_traceback_and_its_cause_comes_last():
    code = "from miram.cli import main_guard\nmain_guard(lambda: 1 // 0)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == f"error: ZeroDivisionError: integer division or modulo by zero; {REPORT}"


def test_names_that_are_not_utf8_can_be_printed():
    code = "from miram.cli import main_guard\nmain_guard(lambda: print('bild_\\udce4.png'))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "bild_\\udce4.png\n")


@pytest.mark.parametrize(
    "name", ["data", "my data", "it's", "a$b", "$data", "@data", "-data", "'data'", "a;b", "exp#2"]
)
def test_a_path_comes_through_the_shell_as_it_is(name):
    typed = subprocess.run(f"printf %s {shell_path(name)}", shell=True, capture_output=True, text=True).stdout
    assert Path(typed) == Path(name)
    assert typed[0] not in "$@-'"


@pytest.mark.parametrize(
    ("cause", "traceback", "last"),
    [
        ("InputError('no such file a.dcm')", False, "error: no such file a.dcm"),
        ("ValueError('scale 1.3 does not give a whole grid')", True, "error: scale 1.3 does not give a whole grid"),
        ("KeyError('bug')", True, f"error: KeyError: 'bug'; {REPORT}"),
        ("FileExistsError(17, 'File exists', 'run')", True, f"error: run: File exists; {IN_THE_WAY}"),
    ],
)
def test_what_a_user_can_mend_is_the_last_line_of_a_wrapped_error(cause, traceback, last):
    code = (
        "from miram.cli import explain_errors\nfrom miram.errors import InputError\nexplain_errors()\n"
        f"try:\n    raise {cause}\nexcept Exception as error:\n    raise RuntimeError('component {{...}}') from error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is traceback
    assert done.stderr.splitlines()[-1] == last


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
