"""What MONAI Label calls when it trains a bundle: it turns images with finished labels into items of a task."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Compose, LoadImage

from miram.data.datalist import Item, describe, split_by_patient
from miram.data.labelled import check_classes, targets_as_samples
from miram.data.tasks import Task
from miram.errors import InputError
from miram.inference.inputs import LoadCropd, check_pixels, reduce_to
from miram.loading.mixup import MixupDataset
from miram.packaging.label_serving import dicom_source
from miram.readers.formats import read_image, without_suffix
from miram.transforms.crops import cut_lesion


def are_pairs(items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether items are from MONAI Label: each has only the paths of an image and of its label."""
    return bool(items) and all(set(item) == {"image", "label"} for item in items)


def split_items(
    training: Sequence[Item], validation: Sequence[Item], task: Task, seed: int = 0
) -> dict[str, list[Item]]:
    """
    Turn MONAI Label's pairs into items; items of a prepared folder stay unchanged.

    MONAI Label splits its list in the order of the files. We split it again with the same validation share, by patient
    and with both classes.

    Args:
        training: pairs, see :func:`are_pairs`, or items of a prepared folder.
        validation: pairs or items, as in `training`.

    Returns:
        "training" and "validation"; items from pairs have the path of their label under "label_file".

    Raises:
        InputError: if a label is not a class, there is nothing to validate on, or a split has only one class.
    """
    if not are_pairs(training):
        return {"training": list(training), "validation": list(validation)}
    pairs = [*training, *validation]
    share = len(validation) / len(pairs)
    if share == 0:
        raise InputError("there is nothing to validate on: train with val_split 0.2, and label at least 4 images")
    items = [_item(pair, task) for pair in pairs]
    splits = dict(zip(("training", "validation"), split_by_patient(items, share, seed, task.key), strict=True))
    for name, part in splits.items():
        check_classes(part, task, name)
    return splits


def read_label(path: str | os.PathLike[str]) -> np.ndarray:
    """
    Read a label map.

    Args:
        path: a file in any format that MONAI reads; its first axis is the columns.

    Returns:
        (H, W), the stored values.

    Raises:
        InputError: if it cannot be read, or is a volume.
    """
    try:
        values = np.asarray(LoadImage(image_only=True)(path))
    except Exception as error:  # MONAI may choose any reader
        raise InputError(f"the label {path} cannot be read ({type(error).__name__}); save it again") from error
    plane = values.squeeze(axis=tuple(range(2, values.ndim))) if values.size == np.prod(values.shape[:2]) else values
    if plane.ndim != 2:
        raise InputError(f"the label {path} has {'x'.join(map(str, values.shape))} values; give one per pixel")
    return plane.T


def label_class(path: str | os.PathLike[str], label: np.ndarray, task: Task) -> str:
    """
    The class that a label map names by its only value other than 0; 1 is the task's first class.

    Raises:
        InputError: if it names no class or several.
    """
    values = np.unique(label[label != 0]).tolist()
    if len(values) != 1 or values[0] not in range(1, len(task.classes) + 1):
        meaning = ", ".join(f"{number} {name}" for number, name in enumerate(task.classes, start=1))
        found = ", ".join(f"{value:g}" for value in values) or "none"
        raise InputError(f"the label {path} has these values other than 0: {found}; give it one of {meaning}")
    return task.classes[int(values[0]) - 1]


def describe_data(from_label: bool, dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """How a model describes its training data: MONAI Label's labels, or a prepared folder."""
    return {"name": "labels of MONAI Label"} if from_label else describe(dataset_dir)


class LabelledDataset(MixupDataset):
    """
    Crops and their targets.

    Args:
        data: the original training data, set by MONAI Label; :func:`split_items` makes the items from it.
        transform: MONAI transforms, the first of which is a :class:`LoadLabelledCropd`.
    """

    def __init__(
        self, data: Sequence[Item], items: Sequence[Item], task: Task, transform: Compose, **options: Any
    ) -> None:
        self.given = data
        samples = targets_as_samples(items, task)
        files = [{"label_file": item["label_file"]} if "label_file" in item else {} for item in items]
        super().__init__(
            [{**sample, **file} for sample, file in zip(samples, files, strict=True)], transform, **options
        )


class LoadLabelledCropd(LoadCropd):
    """
    Load crops: prepared crops unchanged; from labelled images the marked lesion with its context.

    If a label marks its whole image, the image is already a crop.

    Args:
        context: side of the crop of a lesion in bounding boxes of the lesion, if that is more than `crop_size`.
        options: of :class:`miram.inference.inputs.LoadCropd`. An image above `largest_crop` is not a crop: its lesion
            must be marked. `intensity` applies to images that were not prepared.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], *, context: float = 1.5, **options: Any) -> None:
        super().__init__(keys, **options)
        self.context = context

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Replace paths with crops (1, H, W), float32 0..65535.

        Raises:
            InputError: if an image cannot be read or is not suitable for training, or its label has another size.
        """
        result = dict(data)
        label = result.pop("label_file", None)
        for key in self.key_iterator(result):
            intensity = "stored" if label is None else self.intensity
            pixels = read_image(dicom_source(result[key]), intensity=intensity).pixels
            crop = pixels if label is None else self._lesion(result[key], pixels, label)
            result[key] = crop[None].astype(np.float32)
        return result

    def _lesion(self, path: str, pixels: np.ndarray, label: str) -> np.ndarray:
        marked = read_label(label) != 0
        if marked.shape != pixels.shape:
            sizes = ["x".join(map(str, array.shape)) for array in (marked, pixels)]
            raise InputError(
                f"the label {label} has {sizes[0]} pixels, but its image {sizes[1]}; label the image itself"
            )
        if not marked.all():
            check_pixels(path, pixels, len(self.crop_size), max(pixels.shape))
            return cut_lesion(pixels, marked, max(self.crop_size), self.context)[0]
        check_pixels(path, pixels, len(self.crop_size), self.largest_crop)
        return reduce_to(pixels, self.crop_size)


def _item(pair: Mapping[str, str], task: Task) -> Item:
    if task.type == "multilabel":
        raise InputError(f"the task {task.name!r} has several classes at once, which a label map cannot name")
    patient = read_image(dicom_source(pair["image"])).patient or without_suffix(pair["image"]).name
    name = label_class(pair["label"], read_label(pair["label"]), task)
    return {"image": pair["image"], "label_file": pair["label"], "patient": patient, task.key: name}
