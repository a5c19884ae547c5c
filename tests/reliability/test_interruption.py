"""
A run that is killed and started again ends as one that was not: the same bits, the same history.

The long version: `python -m pytest tests/reliability/test_interruption.py -n 0 -s --kills 100`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .runs import Runs, assert_equal, make_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("workflow", ["pretrain", "finetune"])
def test_a_run_killed_at_each_of_its_phases_loses_nothing(workflow, data, repository, tmp_path):
    """SIGKILL within an epoch, while it writes a checkpoint, while it validates and while it concludes an epoch."""
    runs = Runs(workflow, repository, data, max_epochs=2)
    runs.finish(tmp_path / "whole")
    for phase in ("training", "writing a checkpoint", "validating", "concluding"):
        assert runs.stop(tmp_path / "cut", phase.__eq__)
    runs.finish(tmp_path / "cut")
    assert_equal(tmp_path / "whole", tmp_path / "cut")
    assert runs.faults.total == 4


def test_loader_processes_change_nothing(data, repository, tmp_path):
    Runs("pretrain", repository, data, max_epochs=2).finish(tmp_path / "whole")
    runs = Runs("pretrain", repository, data, max_epochs=2, num_workers=2)
    assert runs.stop(tmp_path / "cut", "training".__eq__, delay=0.05)
    assert runs.stop(tmp_path / "cut", "validating".__eq__, signal="terminate")
    runs.finish(tmp_path / "cut")
    assert_equal(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("workflow", ["pretrain", "finetune"])
@pytest.mark.timeout(36000)
def test_many_faults_lose_nothing(workflow, data, repository, tmp_path, request, capsys):
    """By flag: at random moments SIGKILL, now and then SIGTERM, and now and then a flipped bit in the checkpoint."""
    kills = request.config.getoption("--kills", default=0)
    if not kills:
        pytest.skip("the long version: --kills 100")
    draw = random.Random(0)
    runs = Runs(workflow, repository, data, max_epochs=4)
    runs.finish(tmp_path / "whole")
    finished = 0
    while runs.faults.total < kills:
        cut = tmp_path / f"cut{finished}"
        while stop_somewhere(runs, cut, draw):
            if draw.random() < 0.2 and (cut / "checkpoint_previous.pt").exists():
                flip_a_bit(cut / "checkpoint.pt", draw)
                runs.faults.counts["a flipped bit in the checkpoint"] += 1
        assert_equal(tmp_path / "whole", cut)
        finished += 1
    with capsys.disabled():
        print(f"\n{workflow}: {finished} runs ended as the one that was not stopped, after {runs.faults.total} faults:")
        for name, count in sorted(runs.faults.counts.items()):
            print(f"  {count:4d} {name}")


def stop_somewhere(runs: Runs, cut: Path, draw: random.Random) -> bool:
    """Stop a run at a random moment, each phase being as likely; now and then let it go on for longer."""
    phase = draw.choice(["starting", "training", "validating", "concluding", "writing a checkpoint", None])
    if phase is None:
        return runs.stop(cut, lambda _: False)
    signal = "terminate" if draw.random() < 0.25 else "kill"
    return runs.stop(cut, phase.__eq__, signal, delay=draw.choice([0, 0.001, 0.01, 0.1, 0.5]) * draw.random())


def flip_a_bit(path: Path, draw: random.Random) -> None:
    """Damage one byte of a file."""
    if path.exists():
        raw = bytearray(path.read_bytes())
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(raw))
