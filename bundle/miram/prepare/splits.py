"""Which patients of a folder are for training, which are held out: as its table says, the rest drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from miram.data.datalist import Item, split_by_patient
from miram.errors import InputError
from miram.prepare.labels import Labels


def named_splits(patients: Mapping[str, str], labels: Labels) -> dict[str, str]:
    """
    The splits that a table's column `split` names, by patient.

    Args:
        patients: source -> patient.
        labels: what the table says.

    Raises:
        InputError: if images of one patient are in two splits.
    """
    named: dict[str, tuple[str, str]] = {}
    for source, patient in patients.items():
        split = labels.of(source).split
        if split is None:
            continue
        other, first = named.setdefault(patient, (split, source))
        if other != split:
            raise InputError(
                f"the column split has patient {patient!r} in {other} ({first}) and in {split} ({source}); give all "
                "images of a patient one split"
            )
    return {patient: split for patient, (split, _) in named.items()}


def draw_splits(
    items: Sequence[Item],
    named: Mapping[str, str],
    test_fraction: float,
    validation_fraction: float,
    seed: int = 0,
    stratify_key: str | None = None,
) -> dict[str, list[Item]]:
    """
    Put every patient into one split.

    A patient whom the table names is where it says; the others are for training. Where the table names no test (or no
    validation) patient, a share of the unnamed patients is drawn, the test split first; of those named for training
    only where it names all but one.

    Args:
        items: each with "patient".
        named: patient -> split, from the table.
        test_fraction: share of these patients for the test split.
        validation_fraction: share of those that are left for validation.
        seed: of the draws.
        stratify_key: a key of the items whose values are to have like shares in each split.

    Returns:
        "training", "validation" and "test" items, each in the given order.
    """
    held = {split: [item for item in items if named.get(item["patient"]) == split] for split in ("validation", "test")}
    unnamed = [item for item in items if item["patient"] not in named]
    if len({item["patient"] for item in unnamed}) > 1:
        rest = unnamed
    else:  # too few to draw from
        rest = [item for item in items if named.get(item["patient"], "training") == "training"]
    for split, share in (("test", test_fraction), ("validation", validation_fraction)):
        if not held[split]:
            rest, held[split] = split_by_patient(rest, share, seed, stratify_key)
    taken = {item["patient"] for items_held in held.values() for item in items_held}
    return {"training": [item for item in items if item["patient"] not in taken], **held}
