"""Let torch's CPU threads sleep while they wait for each other, or a busy machine slows a run down tenfold."""

from __future__ import annotations

import os
import sys
import threading

# GNU's OpenMP reads these when torch loads it; if one is set, the user has chosen
_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def wait_asleep() -> None:
    """
    Let OpenMP's threads sleep at a barrier instead of spinning for a while.

    Spinning is faster on an idle machine (docs/performance.md). But if another process needs the core, threads spin
    while the one that they wait for cannot run. OpenMP reads the policy from the environment when torch is loaded. If
    torch is already loaded, as in `python -m monai.bundle run`, there is another way: OpenMP does not spin either while
    it manages more threads than there are cores, so a few that always sleep are added. Torch's results do not change.
    """
    if any(name in os.environ for name in _CHOICES):
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(os, "sched_getaffinity"):  # not loaded yet, or not GNU's OpenMP
        return
    cores, team = len(os.sched_getaffinity(0)), torch.get_num_threads()
    if team > 1:
        for _ in range(-(-cores // (team - 1)) - 1):  # each of our threads adds a team, not counting itself
            _keep_a_team_asleep(torch)


def _keep_a_team_asleep(torch: object) -> None:
    started = threading.Event()

    def hold() -> None:
        torch.ones(1 << 20).add_(1)  # type: ignore[attr-defined]  # large enough for OpenMP to start the team
        started.set()
        threading.Event().wait()

    threading.Thread(target=hold, name="miram-sleeping-team", daemon=True).start()
    started.wait()
