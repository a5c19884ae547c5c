"""Lists of formats in docs, configs and scripts are those of the readers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from miram.readers import formats

REPOSITORY = Path(__file__).parents[2]
# A list is four names or more that begin with DICOM, over line breaks and the marks of comments.
LIST = re.compile(r"DICOM,(?:[\s#]+\w+,){2,}[\s#]+\w+(?:[\s#]+or[\s#]+\w+)?")


def found() -> list[tuple[str, str]]:
    paths = [path for name in ("docs", "configs", "scripts", "bundle") for path in (REPOSITORY / name).rglob("*.*")]
    texts = [
        (path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8"))
        for path in (REPOSITORY / "README.md", *paths)
        if path.suffix in (".md", ".yaml", ".py", ".json")
    ]
    return [(name, match) for name, text in texts for match in LIST.findall(text)]


def test_lists_are_found() -> None:
    assert {"README.md", "docs/riskmap.md", "configs/inference.yaml"} <= {name for name, _ in found()}


@pytest.mark.parametrize(("name", "listed"), found())
def test_a_list_of_formats_is_that_of_the_readers(name: str, listed: str) -> None:
    words = [word for word in re.findall(r"\w+", listed) if word != "or"]
    assert words == formats.format_names().split(", "), name


def test_a_new_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.READERS, ".webp", formats.READERS[".png"])
    assert formats.format_names(" or ").endswith("NRRD or WEBP")
