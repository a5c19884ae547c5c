"""Images to files of crops, and what is done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miram.data.leakage import perceptual_hash
from miram.errors import InputError
from miram.prepare.image_crops import CropSettings
from miram.prepare.image_jobs import ImageJob, crop_spacing, numbered_job, prepare_image, prepare_images
from miram.prepare.prepared import read_png16
from miram.prepare.records import Record, Records

from ..image_files import picture, write_dicom


def prepare(path: Path, output: Path, settings: CropSettings | None = None) -> Record:
    """The record of one image."""
    settings = settings or CropSettings()
    return prepare_image(numbered_job(path.name, settings), path.parent, Records(output), settings, b"key")


@dataclass(frozen=True)
class Square:
    """A lesion of 8 x 8 pixels in the corner, or one whose place is not known."""

    known: bool = True
    if_constant: str = "constant"

    @property
    def key(self) -> list[bool]:
        return [self.known]

    def mask(self, shape: Sequence[int]) -> tuple[np.ndarray, str]:
        if not self.known:
            raise InputError("not known")
        mask = np.zeros(tuple(shape), bool)
        mask[:8, :8] = True
        return mask, "seen"


BOTH = CropSettings("both", crop_size=16, crops_per_image=3)
JOB = ImageJob("a.png", 7, ("t1", "t2", "t3"), (Square(False), Square()), ("first", "second"))


def run(job: ImageJob, folder: Path, settings: CropSettings = BOTH) -> tuple[Record, int]:
    """The record of a picture, and whether it is an earlier run's."""
    if not (folder / job.source).exists():
        Image.fromarray(picture(16, (48, 40))).save(folder / job.source)
    results, reused = prepare_images([job], folder, Records(folder / "out"), settings, workers=0)
    record = results[job.source]
    assert isinstance(record, Record)
    return record, reused


def test_each_lesion_has_its_name_whatever_becomes_of_another(tmp_path: Path) -> None:
    record, _ = run(JOB, tmp_path)
    assert [crop.image for crop in record.crops] == ["images/second.png"]
    assert record.crops[0].mask == "masks/second.png"
    assert (record.region_remarks, record.faulty) == (("not known", "seen"), (0,))


def test_no_tissue_is_cut_where_it_may_show_a_lesion_of_unknown_place(tmp_path: Path) -> None:
    record, _ = run(JOB, tmp_path)
    assert [crop.kind for crop in record.crops] == ["lesion"]
    assert record.reason == "no tissue crops: where one of its lesions lies is not known"


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        ({}, 1),
        ({"regions": ()}, 0),
        ({"lesions": ("another",)}, 0),
        ({"tissue": ("t1", "t2", "other")}, 0),
    ],
)
def test_what_decides_the_crops_decides_whether_they_are_kept(
    tmp_path: Path, change: dict[str, Any], reused: int
) -> None:
    job = ImageJob("a.png", 7, ("t1", "t2", "t3"), (Square(),), ("lesion",))
    first, _ = run(job, tmp_path)
    record, kept = run(replace(job, **change), tmp_path)
    assert kept == reused
    assert (record == first) == bool(reused)
    assert {f"images/{path.name}" for path in (tmp_path / "out/images").iterdir()} == {c.image for c in record.crops}


def test_a_lesion_that_could_not_be_used_is_tried_again(tmp_path: Path) -> None:
    assert [run(JOB, tmp_path)[1] for _ in range(2)] == [0, 0]


def test_a_record_tells_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    header = {"ImageLaterality": "L", "ViewPosition": "CC", "PixelSpacing": [0.1, 0.2]}
    write_dicom(tmp_path / "in/a b.dcm", picture(16, (80, 64)), **header)
    settings = CropSettings(crops="whole", crop_size=40)
    record = prepare(tmp_path / "in/a b.dcm", tmp_path / "out", settings)
    (crop,) = record.crops
    assert crop.image.startswith("images/a_b_")
    assert crop_spacing(record.facts["spacing"], crop.zoom) == (0.2, 0.4)
    assert read_png16(tmp_path / "out" / crop.image).shape == (40, 40)
    digits = perceptual_hash(picture(16, (80, 64)))
    assert record.facts == {"laterality": "LEFT", "view": "CC", "spacing": (0.1, 0.2), "hash": digits}
    assert record.patient is not None
    assert "SECRET" not in repr(record)
    assert record.scaling == "16 bit as stored"


def test_equal_stems_do_not_collide(tmp_path: Path) -> None:
    sources = ["1/a.png", "2/a.png", "1/a.tif"]
    for number, source in enumerate(sources):
        (tmp_path / source).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(8, seed=number)).save(tmp_path / source)
    jobs = [numbered_job(source, CropSettings()) for source in sources]
    results, _ = prepare_images(jobs, tmp_path, Records(tmp_path / "out"), CropSettings(), workers=0)
    outputs = {name for record in results.values() if isinstance(record, Record) for name in record.outputs}
    assert len(outputs) == 3


@pytest.mark.parametrize(
    ("shape", "count", "reason"),
    [
        ((20, 400), 4, ""),
        ((20, 34), 3, "3 of 4 crops: there are no more different windows of tissue"),
        ((20, 32), 1, "1 of 4 crops: the image is no larger than a crop"),
    ],
)
def test_thin_images_give_all_the_crops_there_are_and_say_if_they_are_few(
    tmp_path: Path, shape: tuple[int, int], count: int, reason: str
) -> None:
    pixels = np.full(shape, 50_000, np.uint16)
    pixels[:, -1] = 0  # all is tissue but a column of air
    Image.fromarray(pixels).save(tmp_path / "a.png")
    settings = CropSettings(crop_size=32, crops_per_image=4, min_tissue=0.9)
    record = prepare(tmp_path / "a.png", tmp_path / "out", settings)
    assert (len(set(record.outputs)), record.reason) == (count, reason)


@pytest.mark.parametrize(
    ("pixels", "settings", "reason"),
    [
        (np.full((40, 40), 9, np.uint8), {}, "constant"),
        (picture(8), {"spatial_dims": 3}, "a 2D image, while spatial_dims is 3"),
        (np.pad(picture(8)[:2, :2] + 1, 100), {"crop_size": 64}, "no tissue found"),
    ],
)
def test_images_without_crops_say_why(
    tmp_path: Path, pixels: np.ndarray, settings: dict[str, Any], reason: str
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = prepare(tmp_path / "a.png", tmp_path / "out", CropSettings(**settings))
    assert record.outputs == ()
    assert record.reason.startswith(reason)
    assert not (tmp_path / "out/images").exists()


def test_dark_images_are_marked(tmp_path: Path) -> None:
    for name, high in (("dark", 16383), ("bright", 16384)):
        Image.fromarray(np.array([[0, high]], np.uint16)).save(tmp_path / f"{name}.png")
        record = prepare(tmp_path / f"{name}.png", tmp_path / "out")
        assert record.dark == (name == "dark")
