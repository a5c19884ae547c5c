"""What shows in a terminal and in a log."""

from __future__ import annotations

import sys

import pytest

from miram.progress import progress_bar


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\r", "").splitlines() if line.strip()]


def test_a_log_gets_the_first_and_the_last_line_of_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(2000, "Cutting", unit="images") as bar:
        for _ in range(2000):
            bar.update()
    first, last = lines(capsys.readouterr().err)
    assert first.startswith("Cutting:   0% (0 of 2000 images) in 00:00")
    assert last.startswith("Cutting: 100% (2000 of 2000 images) in 00:0")


def test_a_log_gets_a_line_after_each_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(4, "Cutting", log_seconds=0) as bar:
        for _ in range(4):
            bar.update()
    assert [line[9:13].strip() for line in lines(capsys.readouterr().err)][:5] == ["0%", "25%", "50%", "75%", "100%"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress_bar(3, "Reading", iterable=iter("abc"))) == ["a", "b", "c"]
    text = capsys.readouterr().err
    assert "100%|" in text
    assert text.count("\n") == 1


def test_nothing_to_do_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(0, "Reading", iterable=[])) == []
    assert capsys.readouterr().err == ""
