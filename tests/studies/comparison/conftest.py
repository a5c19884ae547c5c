"""A small prepared folder with a test split, and a stand-in for the runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miram.data.datalist import write_datalist
from miram.prepare.prepared import write_png16
from studies.comparison.plan import OUTPUTS, Step
from studies.comparison.settings import Settings


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """One crop each of 60 patients, 24 for training, 12 for validation, 24 for testing; malignant ones are brighter."""
    random = np.random.default_rng(0)
    items = []
    for n in range(60):
        malignant = n % 2 == 1
        item = {"image": f"images/{n}.png", "mask": None, "patient": f"p{n}", "lesion": f"l{n}", "abnormality": "mass"}
        item |= {"pathology": "MALIGNANT" if malignant else "BENIGN", "mass_margins": ["SPICULATED"] * malignant}
        items.append(item)
        pixels = random.integers(0, 20000, (40, 40)) + 20000 * malignant
        write_png16(tmp_path / "data" / item["image"], pixels.astype(np.uint16))
    names = {
        "pathology": ["BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"],
        "mass_margins": ["OBSCURED", "SPICULATED"],
    }
    splits = {"training": items[:24], "validation": items[24:36], "test": items[36:]}
    write_datalist(tmp_path / "data", {"name": "small", "generated": True, "label_names": names, **splits})
    return tmp_path / "data"


@pytest.fixture
def settings(labelled: Path, tmp_path: Path) -> Settings:
    return Settings(labelled, tmp_path / "results", seeds=(0, 1), label_fractions=(0.5, 1.0))


class StubRunner:
    """Writes a step's output instead of making it; fails at the step called `fail_at`."""

    def __init__(self, fail_at: str = "") -> None:
        self.names: list[str] = []
        self.fail_at = fail_at

    def __call__(self, step: Step, settings: Settings, lane: int) -> None:
        self.names.append(step.name)
        if step.name == self.fail_at:
            raise KeyboardInterrupt
        (settings.output_dir / step.name / OUTPUTS[step.stage]).write_text("")
        if step.stage in ("pretrain", "finetune"):
            history = "epoch,iteration,seconds\n1,4,2.0\n2,8,6.0\n"
            (settings.output_dir / step.name / "history.csv").write_text(history)


@pytest.fixture
def stub() -> type[StubRunner]:
    return StubRunner
