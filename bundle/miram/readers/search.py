"""The files below a folder: each file once, links followed, and a reason for everything that is skipped."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from miram.errors import InputError

HIDDEN = "hidden, or in a hidden folder"


@dataclass
class Found:
    """The content of a folder. Names are relative to it, with forward slashes, sorted by their parts."""

    files: list[str] = field(default_factory=list)  # the files that were found
    # entries that are normally not wanted, with the reason: hidden files, pipes and sockets
    ignored: dict[str, str] = field(default_factory=dict)
    # links to a file or folder that is found under another name, with the reason
    repeated: dict[str, str] = field(default_factory=dict)
    # broken links and folders without read permission, with the reason and the remedy
    problems: dict[str, str] = field(default_factory=dict)


def search(root: str | os.PathLike[str], without: str | os.PathLike[str] | None = None) -> Found:
    """
    Find every file below a folder once.

    Links to files and folders are followed after everything else. So a file keeps the name of its real place, and
    folders that link to each other, or to one that contains them, do not cause endless loops.

    Args:
        without: a folder that is silently skipped, such as the output folder.

    Raises:
        InputError: if the folder itself cannot be read.
    """
    found = _Search(Path(root), without).run()
    if "" in found.problems:
        raise InputError(f"{root}: {found.problems['']}")
    return found


class _Search:
    """One walk; pending folders are (relative name, path, real path)."""

    def __init__(self, root: Path, without: str | os.PathLike[str] | None) -> None:
        self.found = Found()
        self.without = None if without is None else os.path.realpath(without)
        self.root = os.path.realpath(root)
        self.folders = [("", os.fspath(root), self.root)]
        self.links: list[tuple[str, str]] = []
        self.names = {self.root: "the folder itself"}  # the names of what was taken, by real path

    def run(self) -> Found:
        while self.folders or self.links:
            if self.folders:
                self._list(*self.folders.pop())
            else:
                self.links.sort(key=lambda link: link[0].split("/"), reverse=True)
                self._follow(*self.links.pop())
        self.found.files.sort(key=lambda name: name.split("/"))
        return self.found

    def _list(self, name: str, path: str, real: str) -> None:
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._take(
                        f"{name}/{entry.name}" if name else entry.name,
                        entry,
                        f"{real.rstrip(os.sep)}{os.sep}{entry.name}",
                    )
        except OSError as error:
            if _is_hidden(name):
                self.found.ignored[name] = HIDDEN
            else:
                remedy = "change its permissions, or move it away"
                self.found.problems[name] = f"the folder cannot be read ({error.strerror}); {remedy}"

    def _take(self, name: str, entry: os.DirEntry[str], real: str) -> None:
        if entry.is_symlink():
            self.links.append((name, entry.path))
        elif entry.is_dir(follow_symlinks=False):
            if real != self.without:
                self._take_folder(name, entry.path, real)
        elif entry.is_file(follow_symlinks=False):
            self._take_file(name, real)
        else:
            self.found.ignored[name] = "neither a file nor a folder"

    def _take_folder(self, name: str, path: str, real: str) -> None:
        self.folders.append((name, path, real))
        if not _is_hidden(name):
            self.names[real] = name

    def _take_file(self, name: str, real: str) -> None:
        if _is_hidden(name):
            self.found.ignored[name] = HIDDEN
        else:
            self.names[real] = name
            self.found.files.append(name)

    def _follow(self, name: str, path: str) -> None:
        if _is_hidden(name):
            self.found.ignored[name] = HIDDEN
            return
        try:
            mode = Path(path).stat().st_mode
        except OSError as error:
            remedy = "fetch the file that it stands for (git annex get, datalad get), or remove the link"
            self.found.problems[name] = f"a link that leads nowhere ({error.strerror}); {remedy}"
            return
        real = os.path.realpath(path)
        if real in self.names:
            self.found.repeated[name] = f"a link to {self.names[real]}, which is found by that name"
        elif _holds(real, self.root):
            self.found.repeated[name] = "a link to a folder that holds this one"
        elif self.without is not None and _holds(self.without, real):
            self.found.repeated[name] = "a link into the folder that is written"
        elif stat.S_ISDIR(mode):
            self._take_folder(name, path, real)
        elif stat.S_ISREG(mode):
            self._take_file(name, real)
        else:
            self.found.ignored[name] = "neither a file nor a folder"


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
