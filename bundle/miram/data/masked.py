"""The items of a split with the masks of their lesions, from which a segmentation learns."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from miram.data.datalist import Item, load_split
from miram.data.labelled import take_fraction
from miram.data.leakage import check_leakage
from miram.data.tasks import Task
from miram.errors import InputError

logger = logging.getLogger(__name__)


def load_masked(
    dataset_dir: str | os.PathLike[str],
    split: str,
    label_fraction: float = 1.0,
    seed: int = 0,
    allow_leakage: str | Sequence[str] | None = None,
) -> list[Item]:
    """
    The items of a split; one without a mask (tissue, a view without a box) shows no lesion.

    Args:
        dataset_dir: a prepared folder.
        split: "training", "validation" or "test".
        label_fraction: share of the patients to keep, see :func:`miram.data.labelled.take_fraction`.
        seed: for that share.
        allow_leakage: what :func:`miram.data.leakage.check_leakage` accepts for a training split.

    Raises:
        InputError: if no item has a mask, or the training split leaks into another.
    """
    items = load_split(dataset_dir, split)
    if split == "training":
        check_leakage(dataset_dir, allow_leakage)
    if label_fraction < 1:
        items = take_fraction(items, Task("lesion", "binary", ("tissue", "lesion")), label_fraction, seed)
    masked = sum(item.get("mask") is not None for item in items)
    if masked == 0:
        raise InputError(
            f"no image of the {split} split of {dataset_dir} has a mask; prepare lesions with prepare_cbis_ddsm.py, or "
            "with prepare_folder.py and --boxes_csv"
        )
    logger.info("%s: %d images with a lesion's mask, %d without a lesion", split, masked, len(items) - masked)
    return items


def masks_as_samples(items: Sequence[Item]) -> list[dict[str, Any]]:
    """One dictionary per item: "image", "index", and "label", the path of its mask, where it has one."""
    return [
        {"image": item["image"], "index": index} | ({"label": item["mask"]} if item.get("mask") else {})
        for index, item in enumerate(items)
    ]
