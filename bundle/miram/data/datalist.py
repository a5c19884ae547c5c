"""The data list of a prepared folder: writing, checking, splitting by patient, and reading for training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miram.errors import InputError
from miram.files import file_sha256, path_inside, write_text

Item = dict[str, Any]

SPLITS = ("training", "validation", "test")
FILE_NAME = "datalist.json"
REMEDY = "make it with scripts/prepare_folder.py or scripts/prepare_cbis_ddsm.py"
DEMONSTRATION = "A demonstration on generated data: no real patient is behind these figures."


def write_datalist(dataset_dir: str | os.PathLike[str], datalist: dict[str, Any]) -> None:
    """
    Check the data list of a prepared folder and write it as JSON, completely or not at all.

    Args:
        datalist: "training", "validation" and "test" (lists of items, each with "image" and "patient") and any other
            JSON content ("name", "modality", "source", "licence", "generated", "label_names").

    Raises:
        InputError: if a patient or an image is in two splits, or a path leaves the folder.
    """
    path = Path(dataset_dir) / FILE_NAME
    _check(path, datalist)
    write_text(path, json.dumps(datalist, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_datalist(dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read and check the data list of a prepared folder; unknown keys are kept.

    Raises:
        InputError: if the file is missing, not JSON, or breaks the contract (see :func:`write_datalist`).
    """
    path = Path(dataset_dir) / FILE_NAME
    if not path.is_file():
        raise InputError(f"there is no {path}; {REMEDY}")
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); {REMEDY}") from error
    _check(path, datalist)
    return datalist


def load_split(dataset_dir: str | os.PathLike[str], split: str, required: bool = True) -> list[Item]:
    """
    The items of one split, with the paths of images and masks made absolute.

    Args:
        split: "training", "validation" or "test".
        required: whether an empty split is an error.

    Raises:
        InputError: if the split is unknown, or empty though required, or one of its files is missing.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    folder = Path(dataset_dir)
    items = [_absolute(item, folder) for item in read_datalist(folder)[split]]
    if not items and required:
        raise InputError(f"the {split} split of {folder / FILE_NAME} is empty; {remedy_of_empty(split)}")
    missing = [item[key] for item in items for key in _path_keys(item) if not Path(item[key]).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} files of {folder / FILE_NAME} are missing, the first is {missing[0]}; "
            "run the prepare script again, it writes what is missing"
        )
    return items


def test_items(dataset_dir: str | os.PathLike[str], allowed: bool) -> list[Item]:
    """The items of the test split if a run may learn from them, otherwise none."""
    return load_split(dataset_dir, "test") if allowed else []


def as_samples(items: Sequence[Item], key: str = "image") -> list[dict[str, Any]]:
    """The samples that a data set loads: each image's path under `key`, and its "index" in the split."""
    return [{key: item["image"], "index": index} for index, item in enumerate(items)]


def read_prepared(dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """How the crops of a prepared folder were made; empty if its data list does not say."""
    return dict(read_datalist(dataset_dir).get("prepared", {}))


def remedy_of_empty(split: str) -> str:
    """How to fill an empty split."""
    if split == "test":
        return (
            "prepare the folder again with --test_fraction 0.2, or with a column split in its table of labels; of "
            "CBIS-DDSM, with the tables of the test set"
        )
    return f"{REMEDY}, from more images or patients"


def describe(dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """
    What results should say of their data: name, source, modality, licence, whether generated, and the data list's hash.

    Raises:
        InputError: if the data list is missing or breaks the contract.
    """
    datalist = read_datalist(dataset_dir)
    facts = {key: datalist.get(key) for key in ("name", "source", "modality", "licence")}
    digest = file_sha256(Path(dataset_dir) / FILE_NAME)
    return {**facts, "generated": says_generated(datalist), "sha256": digest}


def says_generated(datalist: Mapping[str, Any]) -> bool:
    """Whether a data list says that its images are generated, so that results are only a demonstration."""
    if isinstance(datalist.get("generated"), bool):
        return bool(datalist["generated"])
    # Lists without the key are older, or made by a user.
    return any("generated" in str(datalist.get(key, "")).lower() for key in ("name", "source"))


def check_fraction(name: str, value: float) -> None:
    """Raise an InputError if a share of patients to hold out is outside [0, 1)."""
    if not 0 <= value < 1:
        raise InputError(f"{name} is {value}; give 0 (no patient is held out) or more and below 1")


def split_by_patient(
    items: Sequence[Item], fraction: float, seed: int = 0, stratify_key: str | None = None
) -> tuple[list[Item], list[Item]]:
    """
    Hold out whole patients.

    The number of patients held out is the fraction rounded, but at least one, and at least one stays for training.
    Patients are shuffled, sorted by stratum, and taken at even steps, so every stratum contributes its share to within
    one patient.

    Args:
        items: each with "patient"; the result depends on their order and `seed`, not on the spelling of the ids.
        fraction: share of the patients, 0 (none) or more and below 1.
        stratify_key: a key of the items, or of their lesions if a whole image lists them; a patient's stratum is the
            set of its values.

    Returns:
        the items for training and those held out, each in the given order. A single patient is used for training.

    Raises:
        InputError: if the fraction is outside [0, 1).
    """
    check_fraction("fraction", fraction)
    patients = _strata(items, stratify_key)
    held_out: set[str] = set()
    if fraction > 0 and len(patients) > 1:
        count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
        order = np.random.default_rng(seed).permutation(len(patients))
        names = sorted(np.array(list(patients), dtype=object)[order], key=lambda name: patients[name])
        held_out = {names[int((step + 0.5) * len(names) / count)] for step in range(count)}
    training = [item for item in items if item["patient"] not in held_out]
    return training, [item for item in items if item["patient"] in held_out]


def _strata(items: Sequence[Item], stratify_key: str | None) -> dict[str, list[str]]:
    """Each patient in order of appearance, with the sorted values of the patient's items."""
    strata: dict[str, set[str]] = {}
    for item in items:
        values = strata.setdefault(item["patient"], set())
        if stratify_key is not None:
            values.update(str(one.get(stratify_key)) for one in _labelled(item))
    return {patient: sorted(values) for patient, values in strata.items()}


def _labelled(item: Item) -> Sequence[Item]:
    """What has an item's labels: itself, or the lesions that a whole image lists."""
    return [item] if item.get("lesions") is None else item["lesions"]


def _check(path: Path, datalist: Any) -> None:
    if not isinstance(datalist, dict):
        raise InputError(f"{path} is not a data list (a JSON object); {REMEDY}")
    for split in SPLITS:
        _check_split(path, datalist, split)
    _check_label_names(path, datalist)
    for key in ("patient", "image"):
        _check_disjoint(path, datalist, key)


def _check_split(path: Path, datalist: dict[str, Any], split: str) -> None:
    items = datalist.get(split)
    if not isinstance(items, list):
        raise InputError(f"{path}: {split!r} is missing or not a list; {REMEDY}")
    for number, item in enumerate(items):
        for key in ("image", "patient"):
            if not isinstance(item, dict) or not isinstance(item.get(key), str):
                raise InputError(f"{path}: item {number} of {split!r} has no text under {key!r}; {REMEDY}")
        for key in _path_keys(item):
            _check_path(path, item[key])


def _check_label_names(path: Path, datalist: dict[str, Any]) -> None:
    names = datalist.get("label_names", {})
    lists = list(names.values()) if isinstance(names, dict) else [None]
    if not all(isinstance(one, list) and all(isinstance(name, str | int | float) for name in one) for one in lists):
        raise InputError(f"{path}: 'label_names' does not hold a list of classes for each task; {REMEDY}")


def _check_disjoint(path: Path, datalist: dict[str, Any], key: str) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        for item in datalist[split]:
            other = seen.setdefault(item[key], split)
            if other != split:
                raise InputError(
                    f"{path}: {key} {item[key]!r} is in both {other!r} and {split!r}; results would leak. "
                    "Keep it in one split"
                )


def _check_path(path: Path, value: Any) -> None:
    try:
        path_inside(path.parent, value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (TypeError, ValueError, OSError, RuntimeError) as error:  # not a text, a null byte, a loop of links
        raise InputError(f"{path}: {value!r} is not a file path; {REMEDY}") from error


def _path_keys(item: Item) -> list[str]:
    return [key for key in ("image", "mask") if item.get(key) is not None]


def _absolute(item: Item, folder: Path) -> Item:
    return item | {key: str(path_inside(folder, item[key])) for key in _path_keys(item)}
