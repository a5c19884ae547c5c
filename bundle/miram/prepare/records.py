"""What a prepare step remembers between runs, so that a second run does only what is missing."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from miram.errors import InputError
from miram.files import atomic_write, claim_folder, path_inside, write_text

WRITTEN = ("images", "masks", "datalist.json", "report.csv")


@dataclass(frozen=True)
class Crop:
    """One crop of an image."""

    image: str  # its file, relative to the prepared folder
    kind: str  # "tissue", "whole" or "lesion"
    mask: str | None = None  # the file of its mask, also relative to that folder, if it has one
    zoom: float = 1.0  # pixels of the crop per pixel of the source: 1 at native resolution, less if reduced
    region: int | None = None  # which of the image's regions it is cut around, by number

    @property
    def files(self) -> tuple[str, ...]:
        """The files written."""
        return (self.image,) if self.mask is None else (self.image, self.mask)


@dataclass(frozen=True)
class Record:
    """What became of one source image."""

    source: str  # relative path
    size: int  # of the source in bytes; with `modified` it tells whether the source has changed
    modified: int  # time of the last change, in ns
    crops: tuple[Crop, ...] = ()  # what was cut from it; none where the image was skipped
    # the keys of the regions that decided the crops (:class:`miram.prepare.regions.Region`)
    regions: tuple[Any, ...] = ()
    # for each of them why it cannot be used, or what to know of it; "" for nothing
    region_remarks: tuple[str, ...] = ()
    faulty: tuple[int, ...] = ()  # the numbers of those that cannot be used
    reason: str = ""  # why it was skipped, or gave fewer crops than were asked for
    scaling: str = ""  # see :class:`miram.readers.image.Image`
    spatial_dims: int = 2  # 2 or 3
    dark: bool = False  # whether the brightest pixel is below a quarter of the range
    # what is known of the image, for the data list ("laterality", "view", "spacing", "hash")
    facts: dict[str, Any] = field(default_factory=dict)
    patient: str | None = None  # a keyed hash of the DICOM PatientID, where there is one
    study: str | None = None  # a keyed hash of the DICOM StudyInstanceUID, where there is one
    # what the header says that may mislead a training, for the report (:class:`miram.readers.image.Image`)
    header: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """All files written, relative to the prepared folder."""
        return tuple(name for crop in self.crops for name in crop.files)


@dataclass(eq=False)
class Records:
    """
    The records of a prepared folder, one small file per source in its `.prepare` folder.

    The folder also holds the settings that decided the crops, and a random key for hashing patient ids. It may be
    deleted once no more images will be added; the key is lost with it.
    """

    output_dir: Path
    key_name: str = "key"  # of the key's file, which shows from what sort of data the folder was prepared
    shared: bool = True  # whether there may be other files in the folder before it is prepared

    @property
    def folder(self) -> Path:
        """Where the records are."""
        return self.output_dir / ".prepare"

    def check(self, settings: dict[str, Any], overwrite: bool = False) -> None:
        """
        Refuse a folder that cannot be continued; nothing is written.

        Raises:
            InputError: if the folder was prepared with other settings, or was not made by this script; the latter also
                with `overwrite`.
        """
        self._check_origin()
        path = self.folder / "settings.json"
        if path.is_file() and not overwrite:
            _compare(self.output_dir, _read_settings(path), settings)

    def begin(self, settings: dict[str, Any], overwrite: bool = False) -> None:
        """
        Start a run, or continue one that had the same settings.

        Raises:
            InputError: see :meth:`check`; or if another process is preparing the folder.
        """
        self.check(settings, overwrite)
        claim_folder(self.folder)
        if overwrite:
            self._forget()
        self.key()
        write_text(self.folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")

    def load(self, source: str, path: Path, regions: Sequence[Any] = ()) -> Record | None:
        """The record of a source, if all of its crops are there and nothing that decides them has changed since."""
        try:
            record = _read_record(self._path(source))
            written = [path_inside(self.output_dir, name) for name in record.outputs]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        status = path.stat()
        before, now = (record.size, record.modified, *record.regions), (status.st_size, status.st_mtime_ns, *regions)
        return record if before == now and all(output.is_file() for output in written) else None

    def discard(self, source: str) -> None:
        """Remove a source's crops, then its record: a run that is stopped in between finds a crop missing."""
        path = self._path(source)
        for name in _outputs(path):
            path_inside(self.output_dir, name).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def save(self, record: Record) -> None:
        """Keep a record; its crops must have been written before."""
        write_text(self._path(record.source), json.dumps(asdict(record)) + "\n")

    def key(self) -> bytes:
        """The folder's random key, which :meth:`begin` makes; without it the folder is of another origin."""
        return secret_key(self.folder / self.key_name)

    def _path(self, source: str) -> Path:
        return self.folder / "sources" / f"{source_digest(source)}.json"

    def _check_origin(self) -> None:
        """Refuse links, and a folder with the output of a prepare step, unless the key shows that it was this step."""
        for path in (self.output_dir / name for name in ("images", "masks", ".prepare")):
            if path.is_symlink():
                raise InputError(f"{path} is a link, and crops would be written where it leads; remove it")
        there = sorted(path.name for path in self.output_dir.iterdir()) if self.output_dir.is_dir() else []
        found = [name for name in there if name in WRITTEN or not (self.shared or name == self.folder.name)]
        if found and not (self.folder / self.key_name).is_file():
            raise InputError(
                f"{self.output_dir} holds {', '.join(found)} of another origin, or of an earlier version (its .prepare "
                f"holds no {self.key_name}); give another --output_dir"
            )

    def _forget(self) -> None:
        """Remove what this module's records say was written; other files stay."""
        for path in (self.folder / "sources").glob("*.json"):
            for name in _outputs(path):
                path_inside(self.output_dir, name).unlink(missing_ok=True)
        for name in ("datalist.json", "report.csv"):
            (self.output_dir / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "sources", ignore_errors=True)
        (self.folder / "settings.json").unlink(missing_ok=True)  # the key stays: a run that is stopped here can go on


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged; give --overwrite, or another --output_dir") from error


def _read_record(path: Path) -> Record:
    values = json.loads(path.read_text(encoding="utf-8"))
    lists = {name: tuple(values[name]) for name in ("regions", "region_remarks", "faulty")}
    return Record(**(values | lists | {"crops": tuple(Crop(**crop) for crop in values["crops"])}))


def _outputs(path: Path) -> tuple[str, ...]:
    """The files that a record names; none if it is missing, or damaged as no killed run leaves it."""
    try:
        return _read_record(path).outputs
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ()


def source_digest(source: str) -> str:
    """Sixteen hexadecimal digits for a relative path: the same on every machine."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def secret_key(path: Path) -> bytes:
    """The random key in a file, which is made if it is missing."""
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def hash_patient(patient: str, key: bytes) -> str:
    """A patient id under a key: equal for equal ids, and without the key not to be found by trying ids."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:32]


def _compare(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))  # a tuple is written as a list
    changed = [name for name in now if before.get(name) != now[name]]
    # Other kinds of crops have settings of their own, which do not count as changed.
    changed = [name for name in changed if name in before] or changed
    if changed:
        told = "; ".join(f"{name}={before.get(name)} then, {now[name]} now" for name in changed)
        raise InputError(
            f"{folder} was prepared with other settings ({told}); "
            "give the same ones, another --output_dir, or --overwrite to prepare it anew"
        )
