"""The command line: what is typed, printed and returned."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from miram.data.datalist import read_datalist
from miram.data.tasks import find_task

from ..detection_case import make_lesion_views

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/prepare_folder.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "bundle")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small images and a file that cannot be read."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40)).save(tmp_path / f"in/{name}.png")
    (tmp_path / "in/c.png").touch()
    return tmp_path / "in"


def test_it_says_what_was_done_and_what_to_type_next(folder: Path) -> None:
    output = folder.parent / "out"
    result = run(
        "--input_dir", folder, "--output_dir", output, "--crop_size", 16, "--crops_per_image", 2, "--workers", 0
    )
    assert result.returncode == 0, result.stderr
    assert f"4 crops of 2 images in {output}" in result.stdout
    assert "patients: 1 training, 1 validation" in result.stdout
    assert "2 images: patient from the file name" in result.stdout
    assert "1 of 3 files gave no crop: could not be read" in result.stdout
    assert f"training --config_file configs/pretrain.yaml --dataset_dir {output}" in result.stdout
    assert "preparing: 100%" in result.stderr


def test_volumes_are_trained_on_with_their_own_config(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    volume = np.arange(8000, dtype=np.uint16).reshape(20, 20, 20)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "in/a.nii.gz")
    output = tmp_path / "out"
    result = run("--input_dir", tmp_path / "in", "--output_dir", output, "--crop_size", 24, "--workers", 0)
    assert result.stdout.splitlines()[-1] == (
        "  python -m monai.bundle run training --config_file \"['configs/pretrain.yaml','configs/volumes.yaml']\" "
        f"--dataset_dir {output}"
    )


def test_bad_input_is_one_line_and_status_2(folder: Path) -> None:
    result = run("--input_dir", folder, "--output_dir", folder.parent / "out", "--workers", 0, "--strict")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: 1 rows of")


def test_the_summary_counts_classes_and_the_next_commands_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(noise.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / f"in/{number}.png")
    (tmp_path / "labels.csv").write_text(
        ",image,patient,my finding\n0,0.png,p0,mass;calcification\n1,1.png,p1,calcification;mass;mass\n"
        "2,2.png,p2,mass\n3,3.png,P2,Mass\n4,x.png,p3,\n"
    )
    output = tmp_path / "it's $HOME"
    result = run(
        *(
            "--input_dir",
            tmp_path / "in",
            "--output_dir",
            output,
            "--crops",
            "whole",
            "--crop_size",
            32,
            "--workers",
            0,
        ),
        *("--labels_csv", tmp_path / "labels.csv"),
    )
    assert result.returncode == 0, result.stderr
    said = result.stdout.splitlines()
    assert "1 of 5 rows of the table name no image" in said
    task = "task my finding: Mass 1, calcification 2, mass 3 (images; 2 unknown); several classes an image"
    assert task in said
    assert "warning: column 1 of the table without a heading: left out" in said
    assert any(
        line.startswith("warning: classes of my finding differ only in spelling: 'Mass', 'mass'") for line in said
    )
    assert any(line.startswith("warning: patients differ only in spelling: 'P2', 'p2'") for line in said)
    words = shlex.split(said[-1])
    assert words[words.index("--dataset_dir") + 1 :] == [str(output), "--task", "my finding"]
    found = find_task(read_datalist(output), "my finding")
    assert (found.type, found.classes) == ("multilabel", ("Mass", "calcification", "mass"))


def test_a_folder_with_boxes_leads_to_a_detector(tmp_path: Path) -> None:
    case = make_lesion_views(tmp_path / "a folder", 6)
    views, boxes, output = case / "views", case / "boxes.csv", tmp_path / "out"
    options = ("--crops", "both", "--crop_size", 32, "--workers", 0, "--output_dir", output)
    result = run("--input_dir", views, "--boxes_csv", boxes, *options)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[words.index("--config_file") + 1] == "configs/detector.yaml"
    assert words[words.index("--dataset_dir") + 1 :] == [str(output), "--input", str(views), "--boxes_csv", str(boxes)]
