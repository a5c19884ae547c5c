import runpy
import sys

import pytest


def run(repository, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["generate_demo.py", *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(repository / "scripts/generate_demo.py"), run_name="__main__")
    return end.value.code


def test_it_says_what_it_made_and_what_comes_next(repository, tmp_path, monkeypatch, capsys):
    code = run(repository, monkeypatch, "--output_dir", str(tmp_path / "demo"), "--patients", "5", "--workers", "0")
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("5 patients, ")
    assert len([line for line in lines if line.endswith(" rows")]) == 4
    assert lines[-1] == (
        f"next: python scripts/prepare_cbis_ddsm.py --dicom_dir {tmp_path / 'demo/dicom'} "
        f"--csv_dir {tmp_path / 'demo/csv'} --output_dir {tmp_path / 'prepared'}"
    )


def test_the_default_folder_is_not_the_demos(repository, monkeypatch, capsys):
    assert run(repository, monkeypatch, "--help") == 0
    assert "(default data/generated/cbis_ddsm)" in " ".join(capsys.readouterr().out.split())
    assert "/runs/demo'" in (repository / "configs/demo.yaml").read_text(encoding="utf-8")


def test_bad_input_is_one_line_and_status_2(repository, tmp_path, monkeypatch, capsys):
    assert run(repository, monkeypatch, "--output_dir", str(tmp_path / "demo"), "--patients", "2") == 2
    assert "at least 5" in capsys.readouterr().err
