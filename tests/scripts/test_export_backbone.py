"""The command as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, save_weights_file


@pytest.fixture
def run(repository: Path, tmp_path: Path, tiny_encoder: ViTEncoder):
    preprocessing = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    save_weights_file(tmp_path / "backbone.pt", backbone_from_encoder(tiny_encoder, preprocessing, {}))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(repository / "scripts/export_backbone.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_it_says_what_there_is_and_how_it_is_loaded(run, tmp_path: Path) -> None:
    done = run("--backbone", "backbone.pt", "--format", "huggingface", "--output_dir", "exported")
    assert done.returncode == 0, done.stderr
    assert 'next: transformers.ViTModel.from_pretrained("exported", add_pooling_layer=False)' in done.stdout
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(file.name for file in (tmp_path / "exported").iterdir()) == files
    assert done.stderr == ""


def test_bad_input_is_one_line(run) -> None:
    done = run("--backbone", "absent.pt", "--format", "monai", "--output_dir", "exported")
    assert (done.returncode, done.stderr) == (2, "error: there is no file absent.pt\n")
