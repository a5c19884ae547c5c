from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/prepare_cbis_ddsm.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_teaches() -> None:
    text = run("--help").stdout
    assert all(word in text for word in ("--crops", "--strict", "report.csv", "zoom"))
    assert "Also give the test tables" in text
    assert "--boxes_csv boxes.csv --only_listed" in text


def test_bad_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = run("--dicom_dir", tmp_path, "--csv_dir", tmp_path, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} holds none of the tables mass_case_description_train_set.csv")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_prepares_generated_data_and_strict_stops(tmp_path: Path) -> None:
    generate = pytest.importorskip("miram.generated.generate")
    generate.generate_cbis_ddsm(tmp_path / "demo", patients=5, workers=0)
    folders = ["--dicom_dir", tmp_path / "demo/dicom", "--csv_dir", tmp_path / "demo/csv"]
    done = run(*folders, "--output_dir", tmp_path / "out", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert " errors\n" in done.stdout
    assert (
        f"next: python -m monai.bundle run training --config_file configs/pretrain.yaml --dataset_dir {tmp_path}/out"
        in done.stdout
    )
    next(path for path in (tmp_path / "demo/dicom").rglob("*.dcm") if path.is_file()).unlink()
    strict = run(*folders, "--output_dir", tmp_path / "strict", "--workers", 0, "--strict")
    assert strict.returncode == 2
    assert "--strict is set" in strict.stderr


def test_lists_the_boxes_of_generated_data(tmp_path: Path) -> None:
    generate = pytest.importorskip("miram.generated.generate")
    generate.generate_cbis_ddsm(tmp_path / "demo", patients=5, workers=0)
    folders = ["--dicom_dir", tmp_path / "demo/dicom", "--csv_dir", tmp_path / "demo/csv"]
    done = run(*folders, "--boxes_csv", tmp_path / "boxes.csv", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/boxes.csv has the boxes, {tmp_path}/boxes_report.csv every row" in done.stdout
    assert f"--boxes_csv {tmp_path}/boxes.csv --only_listed --output_dir data/lesions --crops both" in done.stdout
    assert "reading masks: 100%" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.csv", "boxes_report.csv", "demo"]


@pytest.mark.parametrize("options", [("--crop_size", 256), ("--overwrite",)])
def test_options_of_crops_are_refused_with_a_table_of_boxes(tmp_path: Path, options: tuple[object, ...]) -> None:
    done = run("--dicom_dir", tmp_path, "--csv_dir", tmp_path, "--boxes_csv", tmp_path / "boxes.csv", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {options[0]} is for crops (--output_dir)")
