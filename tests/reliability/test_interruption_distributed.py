"""Under torchrun all processes stop at the same step, whichever of them had the signal, and go on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .runs import Runs, assert_equal, make_data


def start(runs: Runs, output_dir: Path) -> subprocess.Popen[str]:
    """`torchrun` of two processes, as a user types it."""
    arguments = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    files = [str(runs.repository / f"configs/{name}.yaml") for name in (runs.workflow, "multi_gpu")]
    arguments += ["-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    options: dict[str, Any] = {**runs.options, "output_dir": output_dir, "batch_size": 2}
    del options["device"]  # is that of multi_gpu.yaml
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, cwd=runs.repository, env=environment, **pipes)  # type: ignore[call-overload]


def wait_for_another_checkpoint(process: subprocess.Popen[str], path: Path) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and (path.stat().st_mtime_ns if path.exists() else 0) == before:
        time.sleep(0.005)


@pytest.mark.slow
def test_a_signal_to_one_process_or_to_torchrun_stops_all_and_loses_nothing(repository, tmp_path):
    """Fine-tuning, where each process draws its own stochastic depth."""
    runs = Runs("finetune", repository, make_data(tmp_path / "data"), max_epochs=4)
    whole = start(runs, tmp_path / "whole")
    output = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, output
    for to_torchrun in (False, True):
        process = start(runs, tmp_path / "cut")
        wait_for_another_checkpoint(process, tmp_path / "cut/checkpoint.pt")
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid if to_torchrun else int(workers[-1]), signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
        assert process.returncode != 0
        assert output.count("The same command continues from there") == 1, output
    again = start(runs, tmp_path / "cut")
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "resumed from" in output
    assert_equal(tmp_path / "whole", tmp_path / "cut")
