"""What every prepare step writes: 16-bit crops without metadata, `report.csv`, and the pool that does the work."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import nibabel
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from miram.data.progress import progress_bar
from miram.errors import InputError
from miram.files import atomic_write

Job = TypeVar("Job")
Result = TypeVar("Result")

STATUSES = ("crop", "skipped", "error")


@dataclass(frozen=True)
class ReportRow:
    """
    What became of one source, a row of `report.csv`.

    Args:
        source: the file, or the table and row, as the user knows it.
        status: "crop" (something was written), "skipped" (left out on purpose) or "error" (could not be read).
        reason: why it was skipped or failed, or a remark on the crop.
        outputs: the files written, relative to the prepared folder.
        patient: the patient in the data list.
        scaling: how the stored values became 0..65535 (:class:`miram.data.readers.Image`).
    """

    source: str
    status: str
    reason: str = ""
    outputs: tuple[str, ...] = ()
    patient: str = ""
    scaling: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {STATUSES}")


def write_report(path: str | os.PathLike[str], rows: Sequence[ReportRow]) -> None:
    """Write `report.csv`: a header and one line per row, several outputs joined by `;`."""
    names = [field.name for field in fields(ReportRow)]
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow([";".join(value) if isinstance(value, tuple) else value for value in values])


def write_png16(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """
    Write a gray 16-bit PNG with no metadata, whole or not at all.

    Args:
        path: the file to write.
        array: (H, W), uint16.

    Raises:
        ValueError: if `array` is no two-dimensional uint16 array.
    """
    if array.ndim != 2 or array.dtype != np.uint16:
        raise ValueError(f"a 16-bit PNG holds (H, W) uint16, not {array.shape} {array.dtype}")
    with atomic_write(path) as temporary:
        # Level 1: mammographic noise does not compress better at higher levels, only slower.
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, format="PNG", compress_level=1)


def read_png16(path: str | os.PathLike[str]) -> np.ndarray:
    """
    Read what :func:`write_png16` wrote.

    Returns:
        (H, W), uint16.

    Raises:
        InputError: if the file is missing, damaged, or no gray 16-bit PNG.
    """
    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in ("I;16", "I"):
                raise InputError(f"{path} is no gray 16-bit PNG; prepare the folder again")
            return np.asarray(image).astype(np.uint16, copy=False)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as a PNG ({error}); delete it and prepare the folder again") from error


def write_volume(path: str | os.PathLike[str], array: np.ndarray, spacing: Sequence[float] | None) -> None:
    """
    Write a NIfTI volume with nothing but its voxels and their size, whole or not at all.

    Args:
        path: the file to write, `.nii.gz`.
        array: (H, W, D), uint16, in the closest canonical (RAS) orientation.
        spacing: mm per voxel along each axis; None is written as 1.

    Raises:
        ValueError: if `array` is no three-dimensional uint16 array.
    """
    if array.ndim != 3 or array.dtype != np.uint16:
        raise ValueError(f"a volume is (H, W, D) uint16, not {array.shape} {array.dtype}")
    affine = np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0])
    with atomic_write(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(array, affine), temporary)


def run_jobs(
    jobs: Sequence[Job], work: Callable[[Job], Result], workers: int | None = None, description: str = ""
) -> list[Result | InputError]:
    """
    Do `work` on every job in a pool of processes, with a progress bar.

    Bad input in one job does not stop the others: its result is the error. Anything else that a job raises (a full
    disk, a bug) ends the run; jobs not yet started are given up, those under way finish.

    Args:
        jobs: what to work on; each is pickled.
        work: a function that a new process can import (at a module's top level, or a `functools.partial` of one).
        workers: processes; None is one per core, 0 is this process.
        description: stands before the progress bar.

    Returns:
        a result, or the job's `InputError`, for each job in order.

    Raises:
        InputError: if `workers` is negative, or a process died (as a rule: no memory left).
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; give 0 (this process), a positive number, or none (all cores)")
    count = min(available_cores() if workers is None else workers, len(jobs))
    with progress_bar(len(jobs), description) as bar:
        if count <= 1:
            return [_in_this_process(work, job, bar) for job in jobs]
        return _in_a_pool(work, jobs, count, bar)


def available_cores() -> int:
    """The cores that this process may use (fewer than the machine's in a container or a batch job)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_this_process(work: Callable[[Job], Result], job: Job, bar: tqdm) -> Result | InputError:
    result = _attempt(work, job)
    bar.update()
    return result


def _in_a_pool(work: Callable[[Job], Result], jobs: Sequence[Job], count: int, bar: tqdm) -> list[Result | InputError]:
    # Spawned, not forked: a fork of a process whose torch has started threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
    try:
        futures: list[Future[Result | InputError]] = [pool.submit(_attempt, work, job) for job in jobs]
        for future in futures:
            future.add_done_callback(partial(_count, bar))
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise InputError("a worker process died, as a rule for want of memory; try again with fewer workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _count(bar: tqdm, done: Future) -> None:
    """Move the bar on; not for jobs given up after Ctrl-C or an error, which end cancelled or with its exception."""
    if not done.cancelled() and done.exception() is None:
        bar.update()


def _attempt(work: Callable[[Job], Result], job: Job) -> Result | InputError:
    try:
        return work(job)
    except InputError as error:
        return error


def _start_worker() -> None:
    """One thread a process, since the processes share the cores; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
