"""Which image a name in a table means: exactly, or so nearly that only one comes into question."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from miram.errors import InputError
from miram.files import as_text
from miram.readers.formats import without_suffix


def _folded(name: str) -> str:
    """Without the differences of capitals, and of letters with accents that systems write in two ways."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_suffix(name: str) -> str:
    return _folded(without_suffix(name).as_posix()) if name else ""


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _folded, _without_suffix)


class RowImages:
    """
    The images of a folder, to be found by the names in a table.

    A name is a path or its end, of this machine or of another: one of the two paths ends in the other. It is taken in
    its own spelling first, then whatever the capitals are, then without the suffix.

    Args:
        sources: relative paths of the images.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = {as_text(source): source for source in sources}  # as outputs show them
        self.by_name: list[dict[str, list[str]]] = []
        for spelled in _SPELLINGS:
            names = defaultdict(list)
            for source in sources:
                names[PurePosixPath(spelled(source)).name].append(source)
            self.by_name.append(dict(names))

    def find(self, name: str) -> str | None:
        """
        The image that a name means; None if there is none.

        Raises:
            InputError: if it may be one of several.
        """
        wanted = name.replace("\\", "/").removeprefix("./")
        for whole in (name, wanted):
            if whole in self.sources:
                return self.sources[whole]  # a whole path means itself, also where it is another file's name
        for spelled, names in zip(_SPELLINGS, self.by_name, strict=True):
            parts = _parts(spelled(wanted))
            shared = {source: _shared(parts, _parts(spelled(source))) for source in names.get("".join(parts[-1:]), [])}
            found = [source for source, length in shared.items() if length == max(shared.values()) > 0]
            if len(found) > 1:
                raise InputError(
                    f"{name!r} may be {found[0]} or {found[1]}; give the path relative to the input folder"
                )
            if found:
                return found[0]
        return None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of parts of the shorter path, if the longer ends in it; else 0."""
    length = min(len(one), len(other))
    return length if one[-length:] == other[-length:] else 0
