"""The parts of the check in order, each in a process of its own; every figure is written as soon as it is there."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from miram.files import write_json, write_text
from miram.provenance.versions import installed
from studies.benchmark.steps import heading, machine, table
from studies.gpu_check.settings import CheckSettings, Record

logger = logging.getLogger(__name__)

# The share of the time of each part, and its function. It is imported in the part's process, so that a library that is
# not there is a reason of this part alone.
PARTS = {
    "agreement": (0.06, "studies.gpu_check.agreement.check_agreement"),
    "loading": (0.05, "studies.gpu_check.feeding.check_loading"),
    "feeding": (0.07, "studies.gpu_check.feeding.check_feeding"),
    "steps": (0.37, "studies.gpu_check.step_rates.check_steps"),
    "pretraining": (0.47, "studies.gpu_check.pretraining.check_pretraining"),
}


def run_check(
    settings: CheckSettings, names: Sequence[str], parts: Mapping[str, tuple[float, str]] = PARTS
) -> dict[str, Any]:
    """
    Run parts of the check, and write `gpu_check.json` and `gpu_check.md` after every figure.

    A part that takes too long (a compiler cannot be interrupted), fails or crashes is ended; what it has recorded is
    kept, and the next one begins.

    Args:
        settings: what is measured, and for how long.
        names: the parts to run.
        parts: by name the share of the time, and a function of the form :data:`studies.gpu_check.settings.Part`, which
            is given the settings, a function that records a row, and its seconds. Time that a part leaves
            goes to later parts.

    Returns:
        the content of the JSON file: "machine", "versions", "settings", and "parts": per name its "rows", and a
        "reason" if it ended early.
    """
    result: dict[str, Any] = {
        "machine": machine(settings.device),
        "versions": installed(["torch", "monai", "pytorch-ignite", "transformers", "lightly"]),
        "settings": {"minutes": settings.minutes, **asdict(settings.sizes)},
        "parts": {name: {"rows": [], "reason": "not run"} for name in parts},
    }
    end = time.monotonic() + 60 * settings.minutes
    for position, name in enumerate(names):
        shares = [parts[later][0] for later in names[position:]]
        found, seconds = result["parts"][name], (end - time.monotonic()) * shares[0] / sum(shares)
        found["reason"] = _run(parts[name][1], settings, _recorder(settings, result, name), seconds)
        write_report(result, settings.output_dir)
    return result


def write_report(result: dict[str, Any], output_dir: Path) -> None:
    """Write `gpu_check.json` and `gpu_check.md`."""
    write_json(output_dir / "gpu_check.json", result)
    write_text(output_dir / "gpu_check.md", markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """A table for each part, with the columns that its rows have."""
    lines = [*heading("GPU check", result), "", f"Settings: {result['settings']}"]
    for name, part in result["parts"].items():
        lines += ["", f"## {name}", ""]
        if part["reason"] is not None:
            lines += [f"Ended early: {part['reason']}", ""]
        lines += table(part["rows"])
    return "\n".join(lines) + "\n"


def _recorder(settings: CheckSettings, result: dict[str, Any], name: str) -> Record:
    """Adds a row to a part of the result, and writes all of it."""

    def record(row: dict[str, Any]) -> None:
        logger.info("%s: %s", name, row)
        result["parts"][name]["rows"].append(row)
        write_report(result, settings.output_dir)

    return record


def _run(part: str, settings: CheckSettings, record: Record, seconds: float) -> str | None:
    """Run a part in a process; returns why it ended early."""
    end = time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, settings, sender, seconds))
    process.start()
    sender.close()
    reason = None
    try:
        while receiver.poll(max(end - time.monotonic(), 0)):
            row, reason = receiver.recv()
            if row is not None:
                record(row)
        return "out of time"
    except EOFError:
        process.join()
        return reason or (None if process.exitcode == 0 else f"its process ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _work(part: str, settings: CheckSettings, sender: Connection, seconds: float) -> None:
    """Run a part in this process, and send its rows, and why it failed."""
    started = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        resolve_name(part)(settings, lambda row: sender.send((row, None)), seconds - (time.monotonic() - started))
    except Exception as error:  # also a library that is not there: the other parts go on
        logger.exception("this part failed")
        sender.send((None, f"{type(error).__name__}: {error}".splitlines()[0]))
