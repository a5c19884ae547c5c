"""What the benchmark's command line refuses, before anything is measured."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "arguments", [("--precisions", "float32,float16"), ("--batch_size", "0"), ("--repeats", "0")], ids=str
)
def test_what_cannot_be_measured_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(repository / "scripts/benchmark.py"), run_name="__main__")
    assert end.value.code == 2
    assert "give precisions from float32, bfloat16, and at least 1 as batch size and repeats" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
