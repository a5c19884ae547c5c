import subprocess
import sys
from pathlib import Path

import pytest

from miram.causes import REPORT
from miram.cli import main_guard, shell_path
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
