"""Crops on disk, the report, and the pool of workers."""

from __future__ import annotations

import csv
import operator
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from miram.data.prepared import ReportRow, read_png16, run_jobs, write_png16, write_report, write_volume
from miram.errors import InputError
from miram.files import path_inside

from .image_files import picture


def test_png_comes_back_exactly_and_holds_only_pixels(tmp_path: Path) -> None:
    write_png16(tmp_path / "new/a.png", picture())
    np.testing.assert_array_equal(read_png16(tmp_path / "new/a.png"), picture())
    with Image.open(tmp_path / "new/a.png") as image:
        assert (image.mode, image.info) == ("I;16", {})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint16)])
def test_other_arrays_are_no_png(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint16"):
        write_png16(tmp_path / "a.png", array)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_other_pngs_are_refused(tmp_path: Path) -> None:
    write_png16(tmp_path / "a.png", picture())
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    Image.fromarray(picture(8)).save(tmp_path / "b.png")
    for name, message in (("a.png", "cannot be read"), ("b.png", "no gray 16-bit"), ("c.png", "cannot be read")):
        with pytest.raises(InputError, match=message):
            read_png16(tmp_path / name)


def test_volume_comes_back_exactly(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", picture(16, (8, 9, 10)), (0.5, 0.6, 2.0))
    volume: Any = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(volume.dataobj), picture(16, (8, 9, 10)))
    assert volume.get_data_dtype() == np.uint16
    assert volume.header.get_zooms() == pytest.approx((0.5, 0.6, 2.0))
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")


def test_report_has_a_line_a_row(tmp_path: Path) -> None:
    rows = [ReportRow("a.dcm", "crop", outputs=("x.png", "y.png")), ReportRow("b, c.txt", "skipped", "no image")]
    write_report(tmp_path / "report.csv", rows)
    with open(tmp_path / "report.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["outputs"] for line in lines] == ["x.png;y.png", ""]
    assert [line["source"] for line in lines] == ["a.dcm", "b, c.txt"]
    assert lines[1]["reason"] == "no image"


def test_a_status_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="'lost'"):
        ReportRow("a", "lost")


def square(job: int) -> int:
    if job == 3:
        raise InputError("three is bad")
    return job * job


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_in_one_job_does_not_stop_the_others(workers: int) -> None:
    results = run_jobs([1, 2, 3, 4], square, workers)
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


def test_a_worker_that_dies_names_the_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="fewer workers"):
        run_jobs([9, 9], os._exit, 2)
    assert "100%" not in capfd.readouterr().err, "jobs given up are not done"


def test_ctrl_c_stops_with_the_bar_where_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
    jobs = [interrupt, *[partial(time.sleep, 0.2)] * 20]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, operator.call, 2, "napping")
    lines = capfd.readouterr().err.split("\n")
    assert lines[0].endswith("napping:   0% (0 of 21 it) in 00:00, ? left")
    assert "100%" not in "".join(lines), "the jobs given up are not counted"


def test_no_jobs_and_a_wrong_number_of_workers() -> None:
    assert run_jobs([], square) == []
    with pytest.raises(InputError, match="workers is -1"):
        run_jobs([1], square, -1)
