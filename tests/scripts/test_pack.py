"""What scripts/pack.py makes and says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from miram.data.datalist import write_datalist
from miram.loading.packed import open_packed
from miram.prepare.prepared import write_png16


def test_the_copy_is_in_files_of_the_wanted_size(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    items = [{"image": f"images/{number}.png", "patient": "p"} for number in range(3)]
    for item in items:
        write_png16(tmp_path / item["image"], np.zeros((16, 16), np.uint16))
    write_datalist(tmp_path, {"training": items, "validation": [], "test": []})
    options = ["--dataset_dir", str(tmp_path), "--shard_gigabytes", str(2 * 16 * 16 * 2 / 2**30)]
    monkeypatch.setattr(sys, "argv", ["pack.py", *options, "--packed_dir", str(tmp_path / "copy")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(repository / "scripts/pack.py"), run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"3 crops in 2 files, 0.00 GiB, in {tmp_path / 'copy'}\n"
    assert [len(shard) for shard in open_packed(tmp_path, tmp_path / "copy").shards] == [2, 1]
