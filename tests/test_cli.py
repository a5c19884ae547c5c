import subprocess
import sys

import pytest

from miram.cli import main_guard
from miram.errors import InputError


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


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        main_guard(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("cause", "traceback", "last"),
    [
        ("InputError('no such file a.dcm')", False, "error: no such file a.dcm"),
        ("ValueError('scale 1.3 does not give a whole grid')", True, "error: scale 1.3 does not give a whole grid"),
        ("KeyError('bug')", True, "RuntimeError: component {...}"),
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
