"""The command line: what is typed, printed and returned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..classifier_case import make_classifier, save_model

SCRIPT = Path(__file__).parents[2] / "scripts/package_bundle.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_it_says_what_is_in_the_bundle_and_what_to_type_next(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    done = run("--bundle", "classification", "--checkpoint", model, "--output_dir", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "dist/breast_lesion_classification"
    assert f"{folder} and breast_lesion_classification.zip:" in done.stdout
    assert "models/model.pt" in done.stdout
    assert f"--config_file {folder}/configs/inference.json" in done.stdout.splitlines()[-1]
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {folder.name, f"{folder.name}.zip"}


def test_a_missing_checkpoint_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = run("--checkpoint", tmp_path / "none.pt", "--output_dir", tmp_path / "dist")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: there is no checkpoint")
    assert "Traceback" not in done.stderr
