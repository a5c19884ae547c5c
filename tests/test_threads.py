"""In processes of their own: what OpenMP does is settled when torch is loaded."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="GNU's OpenMP is on Linux")


def counters(busy, idle):
    """Code after which the cores' counters grow by so many ticks from one reading to the next."""
    return f"""
import itertools, os, pathlib
readings, read_text = itertools.count(), pathlib.Path.read_text
def read(path, *arguments, **options):
    if str(path) != "/proc/stat":
        return read_text(path, *arguments, **options)
    n = next(readings)
    return "".join(f"cpu{{core}} {{{busy} * n}} 0 0 {{{idle} * n}} 0 0 0 0 0 0\\n" for core in os.sched_getaffinity(0))
pathlib.Path.read_text = read
"""


BUSY, QUIET = counters(5, 5), counters(1, 9)


def run(code, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


TEAMS = "sum(thread.name == 'miram-sleeping-team' for thread in threading.enumerate())"


def test_before_torch_is_loaded_its_threads_are_told_to_sleep():
    code = BUSY + "import miram, os, sys, threading; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules, "
    assert run(code + TEAMS + ")") == ["PASSIVE", "False", "0"]


def test_on_a_quiet_machine_they_spin():
    code = QUIET + f"import os, threading, torch, miram; print(os.environ.get('OMP_WAIT_POLICY'), {TEAMS})"
    assert run(code) == ["None", "0"]


def test_what_a_user_chose_stays():
    code = BUSY + f"import os, threading, torch, miram; print(os.environ.get('OMP_WAIT_POLICY'), {TEAMS})"
    assert run(code, OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "0"]
    assert run(code, GOMP_SPINCOUNT="1000") == ["None", "0"]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_after_torch_was_loaded_openmp_gets_more_threads_than_cores(threads):
    """OpenMP counts its main thread, the team of that, and the teams that sleep."""
    code = (
        BUSY + f"import os, threading, torch; torch.set_num_threads({threads}); import miram; "
        f"print({TEAMS}, len(os.sched_getaffinity(0)), torch.get_num_threads())"
    )
    teams, cores, after = map(int, run(code))
    assert after == threads
    managed = 1 + (1 + teams) * (threads - 1)
    assert teams == 0 if threads == 1 else managed > cores >= managed - (threads - 1)
