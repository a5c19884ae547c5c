"""The whole check at toy size."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from studies.gpu_check.check import PARTS, run_check
from studies.gpu_check.feeding import check_feeding, check_loading
from studies.gpu_check.settings import TOY, CheckSettings
from studies.gpu_check.step_rates import Measured, check_steps


@pytest.fixture
def settings(tmp_path):
    return CheckSettings(torch.device("cpu"), tmp_path, minutes=60, sizes=TOY)


def test_steps_are_measured_or_have_a_reason(settings, monkeypatch):
    rows = []
    monkeypatch.setattr(
        "studies.gpu_check.step_rates.planned",
        lambda sizes: (Measured(name, 2) for name in ("cross_attention", "mae", "lightly")),
    )
    monkeypatch.setitem(sys.modules, "lightly", None)
    check_steps(settings, rows.append, 60)
    assert [row["name"] for row in rows] == ["cross_attention", "mae", "lightly"]
    assert all(row["images_per_second"] > 0 for row in rows[:2])
    assert "lightly" in rows[2]["reason"] or "timm" in rows[2]["reason"]


def test_a_fed_step_is_beside_one_that_is_not(settings):
    rows = []
    check_feeding(settings, rows.append, 60)
    fed = rows[1]
    assert fed["share"] == pytest.approx(fed["images_per_second"] / rows[0]["images_per_second"])
    assert 0 <= fed["host_waits_for_loader"] <= 1


def test_every_loader_is_measured(settings):
    rows = []
    check_loading(settings, rows.append, 60)
    assert len(rows) == 4
    assert all(0 < row["low"] <= row["crops_per_cpu_second"] <= row["high"] for row in rows)


@pytest.mark.slow
def test_all_parts_run_and_are_written(settings, tmp_path):
    run_check(settings, list(PARTS))
    parts = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert {name: part["reason"] for name, part in parts.items()} == dict.fromkeys(PARTS)
    assert [row["form"] for row in parts["steps"]["rows"]] == ["eager", "eager", "compiled"]
    assert [row["epoch"] for row in parts["pretraining"]["rows"]] == [1, 2, 3]
    assert (tmp_path / "pretraining/loss.png").exists()
    text = (tmp_path / "gpu_check.md").read_text()
    assert all(f"## {name}" in text for name in PARTS)


def hang(settings, record, seconds):
    time.sleep(1000)


def crash(settings, record, seconds):
    record({"figure": 2})
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_part_that_hangs_or_fails_does_not_end_the_others(settings, monkeypatch):
    names = ("hang", "crash", "no_such_function", "left_out")
    shares = (1, 50, 50, 50)  # 24 seconds for the first
    parts = {
        name: (share, f"tests.studies.gpu_check.test_check.{name}") for name, share in zip(names, shares, strict=True)
    }
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    found = run_check(settings, names[:3], parts)["parts"]
    reasons = [found[name]["reason"] for name in names]
    assert reasons[:2] == ["out of time", "its process ended with status -9"]
    assert reasons[2].endswith("has no attribute 'no_such_function'")
    assert reasons[3] == "not run"
    assert found["crash"]["rows"] == [{"figure": 2}]
