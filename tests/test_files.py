import json
import os
import signal
import stat
import subprocess
import sys

import pandas as pd
import pytest

from miram import files
from miram.errors import InputError
from miram.files import atomic_write, claim_folder, path_inside, write_json, write_table, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.csv", "old")

    def write_half():
        with atomic_write(tmp_path / "a.csv") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_write(tmp_path / "deep" / "v.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path / "deep"
        temporary.write_bytes(b"x")
    assert (tmp_path / "deep" / "v.nii.gz").read_bytes() == b"x"


def test_others_may_read_what_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) & 0o400


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "a/../../x"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, relative):
    with pytest.raises(InputError, match="leaves its folder"):
        path_inside(tmp_path, relative)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        path_inside(tmp_path / "in", "link/x")
    assert path_inside(tmp_path / "in", "a/b.png") == (tmp_path / "in" / "a" / "b.png").resolve()


def test_what_json_cannot_hold_becomes_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), (1.5, float("inf"))], 2: "x"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, [1.5, None]], "2": "x"}


def test_a_table_is_written_with_six_digits_and_without_its_index(tmp_path):
    write_table(tmp_path / "new/a.csv", pd.DataFrame({"name": ["x"], "value": [1 / 3]}, index=[7]))
    assert (tmp_path / "new/a.csv").read_text() == "name,value\nx,0.333333\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child has a forked worker")
def test_a_folder_is_claimed_until_its_process_ends_however_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 1.0)
    folder = tmp_path / "run"
    code = (
        "import os, sys, time; from miram.files import claim_folder; claim_folder(sys.argv[1]); worker = os.fork();"
        "worker and print(worker, flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    worker = int(other.stdout.readline())
    try:
        with pytest.raises(InputError, match=r"another run is writing to .*run: wait until it has ended, or choose"):
            claim_folder(folder)
        other.kill()
        other.wait()
        claim_folder(folder)  # also while a worker of the killed process still runs
        claim_folder(folder)  # a second run of this process
    finally:
        os.kill(worker, signal.SIGKILL)
        other.kill()
        other.communicate()
