"""What lies below a folder, links and all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miram.errors import InputError
from miram.readers.search import HIDDEN, search


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("b/2.png", "a.png", "b.x/3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_are_found_in_the_order_of_their_parts(folder: Path) -> None:
    found = search(folder)
    assert found.files == ["a.png", "b/2.png", "b.x/3.png"]
    assert (found.ignored, found.repeated, found.problems) == ({}, {}, {})


def test_what_is_hidden_is_named_and_not_taken(folder: Path) -> None:
    (folder / ".git/annex").mkdir(parents=True)
    (folder / ".git/annex/4.png").touch()
    (folder / "._a.png").touch()
    (folder / "b/.link").symlink_to("nowhere")
    (folder / "4.png").symlink_to(".git/annex/4.png")
    found = search(folder)
    assert found.files == ["4.png", "a.png", "b/2.png", "b.x/3.png"]  # as git-annex has them
    assert found.ignored == dict.fromkeys([".git/annex/4.png", "._a.png", "b/.link"], HIDDEN)


def test_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/5.png").touch()
    (tmp_path / "elsewhere/back").symlink_to(folder)
    (folder / "A").symlink_to(tmp_path / "elsewhere")
    (folder / "B").symlink_to("A")
    (folder / "0.png").symlink_to("a.png")
    found = search(folder)
    assert found.files == ["A/5.png", "a.png", "b/2.png", "b.x/3.png"]
    assert found.repeated == {
        "0.png": "a link to a.png, which is found by that name",
        "A/back": "a link to the folder itself, which is found by that name",
        "B": "a link to A, which is found by that name",
    }


@pytest.mark.parametrize("target", [".", "..", "../..", "b"])
def test_loops_come_to_an_end(folder: Path, target: str) -> None:
    (folder / "b/loop").symlink_to(folder / target, target_is_directory=True)
    found = search(folder)
    assert found.files == ["a.png", "b/2.png", "b.x/3.png"]
    assert list(found.repeated) == ["b/loop"]


def test_links_that_lead_nowhere_are_problems(folder: Path) -> None:
    (folder / "c.dcm").symlink_to("nowhere")
    (folder / "d.dcm").symlink_to("d.dcm")
    problems = search(folder).problems
    assert problems.keys() == {"c.dcm", "d.dcm"}
    assert problems["c.dcm"].startswith("a link that leads nowhere (No such file or directory); fetch the file")


def test_a_folder_that_may_not_be_read_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:  # a mode of 0 does not keep root out
        if path.endswith("b.x"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = search(folder)
    assert found.files == ["a.png", "b/2.png"]
    assert found.problems["b.x"].startswith("the folder cannot be read (Permission denied); change its permissions")
    with pytest.raises(InputError, match="cannot be read"):
        search(folder / "b.x")


def test_pipes_are_named(folder: Path) -> None:
    os.mkfifo(folder / "pipe.dcm")
    assert search(folder).ignored == {"pipe.dcm": "neither a file nor a folder"}


def test_the_folder_that_is_written_is_left_out(folder: Path) -> None:
    (folder / "link").symlink_to("b/2.png")
    found = search(folder, without=folder / "b")
    assert found.files == ["a.png", "b.x/3.png"]
    assert found.repeated == {"link": "a link into the folder that is written"}
