"""The pool of workers, and what it survives."""

from __future__ import annotations

import ctypes
import importlib
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from miram.errors import InputError
from miram.files import path_inside
from miram.jobs import run_jobs


def square(job: int) -> int:
    if job == 3:
        raise InputError("three is bad")
    return job * job


def test_bad_input_in_one_job_does_not_stop_the_others() -> None:
    results = run_jobs([1, 2, 3, 4], square, 0)
    assert [results[0], results[1], results[3]] == [1, 4, 16]
    assert isinstance(results[2], InputError)
    assert str(results[2]) == "three is bad"


@pytest.mark.parametrize("workers", [0, 2])
def test_other_failures_end_the_run(tmp_path: Path, workers: int) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        run_jobs([tmp_path, tmp_path / "missing"], Path.stat, workers)


# Jobs for the pool are functions of libraries: what a test file holds, a new process may not find.
def test_a_pool_keeps_order_and_bad_input_apart(tmp_path: Path) -> None:
    results = run_jobs(["a", "../b", "c"], partial(path_inside, tmp_path), 2)
    assert [results[0], results[2]] == [tmp_path / "a", tmp_path / "c"]
    assert isinstance(results[1], InputError)
    assert "leaves its folder" in str(results[1])


def test_workers_use_one_thread_each_and_no_more_than_there_are_jobs() -> None:
    jobs: list[Callable[[], int]] = [torch.get_num_threads, torch.get_num_threads]
    assert run_jobs(jobs, operator.call, 9) == [1, 1]


def test_a_crash_a_kill_and_a_hang_cost_one_job_each() -> None:
    jobs = [
        partial(ctypes.string_at, 0),  # a segmentation fault, as a codec's
        partial(operator.add, 1, 1),
        partial(signal.raise_signal, signal.SIGKILL),
        partial(time.sleep, 60),
        partial(operator.add, 2, 2),
    ]
    crashed, two, killed, stuck, four = run_jobs(jobs, operator.call, 2, time_limit=5, name=lambda job: "the file")
    assert (two, four) == (2, 4)
    assert "the file stopped the process that worked on it (exit code -11: ended by a crash)" in str(crashed)
    assert "lack of memory; try again with fewer workers" in str(killed)
    assert str(stuck).startswith("the file took longer than 5 seconds")
    assert all(isinstance(error, InputError) for error in (crashed, killed, stuck))


def test_a_kill_while_a_result_is_sent_costs_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for lack of memory while a large image is pickled. Pools whose processes share a pipe are lost then."""
    (tmp_path / "sending.py").write_text(
        "import signal\n"
        "class Large:\n"
        "    def __reduce__(self):\n"
        "        signal.raise_signal(signal.SIGKILL)\n"
        "def work(job):\n"
        "    return Large() if job == 2 else job\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    results = run_jobs([1, 2, 3, 4], importlib.import_module("sending").work, 2, time_limit=60)
    assert [results[0], results[2], results[3]] == [1, 3, 4]
    assert "lack of memory" in str(results[1])


def test_a_process_that_dies_while_it_starts_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "first = pathlib.Path(__file__).with_name('first')\n"
        "if first.exists():\n"
        "    first.unlink()\n"
        "    os._exit(9)\n"
    )
    (tmp_path / "first").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert run_jobs([1, 2], operator.neg, 1) == [-1, -2]
    assert not (tmp_path / "first").exists()


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import math\nfrom miram.jobs import run_jobs\nrun_jobs([4], math.sqrt)\n")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert "__name__ == '__main__'" in done.stderr.splitlines()[-1]


def test_ctrl_c_stops_with_the_bar_where_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started to ignore it
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
    jobs = [interrupt, *[partial(time.sleep, 0.2)] * 20]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, operator.call, 2, "napping")
    lines = capfd.readouterr().err.split("\n")
    assert lines[0].endswith("napping:   0% (0 of 21 files) in 00:00, ? left")
    assert "100%" not in "".join(lines), "the jobs given up are not counted"


def test_no_jobs_and_a_wrong_number_of_workers() -> None:
    assert run_jobs([], square) == []
    with pytest.raises(InputError, match="workers is -1"):
        run_jobs([1], square, -1)
    with pytest.raises(InputError, match="time_limit is 0"):
        run_jobs([1], square, 0, time_limit=0)
