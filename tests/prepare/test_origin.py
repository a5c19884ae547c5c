"""Generated folders are told from others."""

from __future__ import annotations

from pathlib import Path

import pytest

from miram.prepare.origin import GENERATED_MARKER, is_generated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the generator leaves it, and links to what is in it."""
    (tmp_path / "cbis_ddsm/dicom/P_00001").mkdir(parents=True)
    (tmp_path / "cbis_ddsm" / GENERATED_MARKER).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link").symlink_to(tmp_path / "cbis_ddsm/dicom")
    return tmp_path


@pytest.mark.parametrize("name", ["cbis_ddsm", "cbis_ddsm/dicom", "elsewhere/link", "elsewhere/../cbis_ddsm/dicom"])
def test_the_marker_is_found_in_the_folder_and_above(folder: Path, name: str) -> None:
    assert is_generated(folder / name)
    assert is_generated(folder / "elsewhere", folder / name)


def test_other_folders_are_not_generated(folder: Path) -> None:
    assert not is_generated(folder, folder / "elsewhere")
    assert not is_generated()


def test_a_relative_folder_is_looked_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "cbis_ddsm/dicom")
    assert is_generated(".")
