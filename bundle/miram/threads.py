"""On a busy machine, torch's CPU threads sleep while they wait for each other: spinning slows a run down tenfold."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

# GNU's OpenMP reads these when torch loads it; if one is set, the user has chosen
_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def wait_asleep_if_busy() -> None:
    """
    Let OpenMP's threads sleep at a barrier instead of spinning for a while, if other processes use the cores.

    Spinning is faster on an idle machine (docs/performance.md). But if another process needs the core, threads spin
    while the one that they wait for cannot run. OpenMP reads the policy from the environment when torch is loaded. If
    torch is already loaded, as in `python -m monai.bundle run`, there is another way: OpenMP does not spin either while
    it manages more threads than there are cores, so a few that always sleep are added. Torch's results do not change.
    """
    if any(name in os.environ for name in _CHOICES) or _share_in_use() < 0.25:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(os, "sched_getaffinity"):  # not loaded yet, or not GNU's OpenMP
        return
    cores, team = len(os.sched_getaffinity(0)), torch.get_num_threads()
    if team > 1:
        for _ in range(-(-cores // (team - 1)) - 1):  # each of our threads adds a team, not counting itself
            _keep_a_team_asleep(torch)


def _share_in_use(seconds: float = 0.1) -> float:
    """The share of this process's cores that others use, over a moment; 0 where Linux's counters are absent."""
    if not hasattr(os, "sched_getaffinity"):
        return 0.0
    before = _ticks()
    time.sleep(seconds)
    busy, idle = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    return busy / max(busy + idle, 1)


def _ticks() -> tuple[int, int]:
    """Clock ticks that this process's cores have been busy and idle since the machine started."""
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    except OSError:
        return 0, 0
    counts = [[int(count) for count in line[1:9]] for line in lines if line and line[0] in names]
    idle = sum(count[3] + count[4] for count in counts)  # idle, and waiting for a disk
    return sum(map(sum, counts)) - idle, idle


def _keep_a_team_asleep(torch: object) -> None:
    started = threading.Event()

    def hold() -> None:
        torch.ones(1 << 20).add_(1)  # type: ignore[attr-defined]  # large enough for OpenMP to start the team
        started.set()
        threading.Event().wait()

    threading.Thread(target=hold, name="miram-sleeping-team", daemon=True).start()
    started.wait()
