"""Run the steps of a comparison; finished steps are not run again."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
import yaml

from miram.errors import InputError
from miram.files import claim_folder, write_json, write_text
from miram.jobs import available_cores
from studies.comparison.floor import run_floor
from studies.comparison.folds import dataset_dir_of, write_folds
from studies.comparison.plan import OUTPUTS, ROOT, Step, identity, run_overrides
from studies.comparison.settings import FLOORS, Settings

logger = logging.getLogger(__name__)

Runner = Callable[[Step, Settings, int], None]


def run_plan(plan: Sequence[Step], settings: Settings, lanes: int = 1, runner: Runner | None = None) -> None:
    """
    Run every step that is not finished.

    A step writes `arguments.json` when it starts and `finished.json` when it succeeds. An interrupted step runs again
    and continues from its checkpoint.

    Args:
        lanes: how many steps run at once.
        runner: runs a step in a lane; :class:`StepProcesses` if None.

    Raises:
        InputError: if a step fails or was started with other arguments, or another process writes to the folder.
    """
    if lanes < 1:
        raise InputError(f"jobs is {lanes}; at least one step must run")
    claim_folder(settings.output_dir)
    check_arguments(plan, settings)
    write_folds(settings)
    rest = [step for step in plan if not is_finished(step, settings)]
    logger.info("%d steps, %d of them finished before", len(plan), len(plan) - len(rest))
    processes = StepProcesses(lanes)
    numbers = {step.name: f"{number}/{len(plan)}" for number, step in enumerate(plan, 1)}

    def work(step: Step, lane: int) -> None:
        logger.info("%s %s", numbers[step.name], step.name)
        seconds = _run_to_its_end(step, settings, lane, runner or processes)
        logger.info("%s %s: finished in %.1f min", numbers[step.name], step.name, seconds / 60)

    run_side_by_side(rest, lanes, work, processes.stop)


def run_side_by_side(
    steps: Sequence[Step], lanes: int, work: Callable[[Step, int], None], stop: Callable[[], None]
) -> None:
    """
    Run several steps at once: each after the step that it depends on, otherwise in the given order.

    Args:
        lanes: how many run at once.
        work: runs a step in a lane, 0 to `lanes` - 1; steps that run at the same time have different lanes.
        stop: ends the running steps; called if one fails, or on an interruption.

    Raises:
        Exception: what `work` raised, after the others have ended.
    """
    waiting, unfinished, free = list(steps), {step.name for step in steps}, list(range(lanes))
    running: dict[Future[None], tuple[Step, int]] = {}
    with ThreadPoolExecutor(lanes) as pool:
        try:
            while waiting or running:
                ready = [step for step in waiting if step.after is None or step.after.name not in unfinished]
                for step in ready[: len(free)]:
                    waiting.remove(step)
                    lane = free.pop(0)
                    running[pool.submit(work, step, lane)] = step, lane
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step, lane = running.pop(future)
                    future.result()
                    unfinished.remove(step.name)
                    free.append(lane)
        except BaseException:
            stop()
            raise


def _run_to_its_end(step: Step, settings: Settings, lane: int, runner: Runner) -> float:
    """Run a step and record that it is finished; returns its seconds."""
    started = time.perf_counter()
    write_json(_folder(step, settings) / "arguments.json", identity(step, settings))
    runner(step, settings, lane)
    output = _folder(step, settings) / OUTPUTS[step.stage]
    if not output.is_file():
        raise InputError(f"{step.name} ended without {output}; its log is {log_path(step, settings)}")
    seconds = round(time.perf_counter() - started, 3)
    write_json(_folder(step, settings) / "finished.json", {"seconds": seconds})
    return seconds


def check_arguments(plan: Sequence[Step], settings: Settings) -> None:
    """
    Refuse to mix runs with different arguments.

    Raises:
        InputError: if steps were started with other configs, overrides or data; the message names a folder.
    """
    stale: dict[Path, str] = {}
    for step in plan:
        path = _folder(step, settings) / "arguments.json"
        changed = _changes(json.loads(path.read_text(encoding="utf-8")), step, settings) if path.is_file() else ""
        if changed:
            stale[path.parent] = changed
    if stale:
        folder, changed = next(iter(stale.items()))
        raise InputError(
            f"{len(stale)} steps were started with other arguments, configs or data; the first is {folder}, whose "
            f"{changed} changed since; give another --output_dir, or remove these folders to run the steps again"
        )


def _changes(old: dict[str, Any], step: Step, settings: Settings) -> str:
    """The parts of a step's identity that have changed, in words."""
    words = {"config_sha256": "config", "datalist_sha256": "data list", "after": "previous step"}
    new = identity(step, settings)
    return ", ".join(words.get(key, key) for key in new if new[key] != old.get(key))


def is_finished(step: Step, settings: Settings) -> bool:
    """Whether the step has succeeded; :func:`check_arguments` checks whether it had the same arguments."""
    folder = _folder(step, settings)
    return (folder / "finished.json").is_file() and (folder / OUTPUTS[step.stage]).is_file()


class StepProcesses:
    """
    Runs steps to their end: floors in this process, all others as a user does, as a bundle in a separate process.

    Each process has its own process group, so that a Ctrl-C in the terminal reaches it only once, through :meth:`stop`:
    on the first signal it saves a checkpoint, on a second it would end immediately.

    Args:
        lanes: how many may run at once; they share the cores and the GPUs.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self.lock = threading.Lock()

    def __call__(self, step: Step, settings: Settings, lane: int) -> None:
        """
        Run a step.

        Raises:
            InputError: if it fails; the message names its log and quotes its last line.
        """
        if step.task is not None and step.label_fraction is not None and step.stage in FLOORS:
            allowed = step.overrides.get("allow_leakage")
            data = dataset_dir_of(step.fold, settings)
            folder = _folder(step, settings)
            run_floor(data, folder, step.stage, step.task, step.label_fraction, step.seed, allowed)
            return
        overrides = _folder(step, settings) / "overrides.yaml"
        write_text(overrides, yaml.safe_dump(run_overrides(step, settings), sort_keys=False))
        log = log_path(step, settings)
        if self._run(command_of(step, overrides), log, environment_of(lane, self.lanes)) != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise InputError(f"{step.name} failed; its log is {log}, which ends with: {lines[-1] if lines else ''}")

    def stop(self) -> None:
        """Ask the processes to save a checkpoint and end; no new process is started."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()

    def _run(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        with open(log, "ab") as stream:
            with self.lock:
                if self.stopped:
                    return 1
                process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, process_group=0
                )
                self.running.add(process)
            code = process.wait()
            with self.lock:
                self.running.remove(process)
            return code


def command_of(step: Step, overrides: Path) -> list[str]:
    """The command of a step; `overrides` is the config file with its own values."""
    workflow = "evaluating" if step.stage == "evaluate" else "training"
    files = [str(path) for path in (*step.configs, overrides.resolve())]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", str(files)]


def log_path(step: Step, settings: Settings) -> Path:
    """The file with a step's output."""
    return _folder(step, settings) / "log.txt"


def _folder(step: Step, settings: Settings) -> Path:
    return settings.output_dir / step.name


def environment_of(lane: int, lanes: int) -> dict[str, str]:
    """
    The environment of a step's process: the package is found from any working directory.

    With several lanes, each gets its share of the cores (threads of two processes on one core would wait for each
    other) and, if there are several GPUs, one of them.
    """
    paths = [str(ROOT / "bundle"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if lanes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(available_cores() // lanes, 1)))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        if len(gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[lane % len(gpus)]
    return environment
