"""What the check of a GPU refuses, before anything is run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--parts", "agreement,speed", "--device", "cpu"), "--parts agreement,speed: give some of agreement, loading"),
        (("--parts", "agreement"), "there is no GPU here: give --device cpu, with --toy"),
    ],
    ids=["unknown part", "no GPU"],
)
def test_what_cannot_be_checked_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", *arguments, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(repository / "scripts/check_gpu.py"), run_name="__main__")
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
