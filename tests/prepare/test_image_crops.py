"""One image to its crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miram.data.perceptual_hash import perceptual_hash
from miram.errors import InputError
from miram.prepare.crop_settings import CropSettings
from miram.prepare.image_crops import crop_spacing, cut, prepare_image
from miram.prepare.prepared import read_png16
from miram.prepare.records import Records
from miram.transforms.crops import resize_crop

from ..image_files import picture, write_dicom


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "size"), [((96, 80), 32), ((40, 36, 30), 16)])
def test_tissue_windows_are_pixels_of_the_image(shape: tuple[int, ...], size: int) -> None:
    pixels = picture(16, shape)
    crops = [window.pixels for window in cut(pixels, CropSettings(crop_size=size, crops_per_image=5), rng())]
    assert len(crops) == 5
    windows: Any = np.lib.stride_tricks.sliding_window_view(pixels, (size,) * len(shape))
    corner = (0,) * len(shape)
    for crop in crops:
        candidates = np.argwhere(windows[(..., *corner)] == crop[corner])
        assert any((windows[tuple(start)] == crop).all() for start in candidates)


@pytest.mark.parametrize("crops", ["tissue", "whole"])
def test_an_image_no_larger_than_a_crop_is_padded(crops: str) -> None:
    pixels = picture(16, (20, 32))
    (crop,) = cut(pixels, CropSettings(crops=crops, crop_size=32), rng())
    np.testing.assert_array_equal(crop.pixels, np.pad(pixels, ((6, 6), (0, 0))))


def test_whole_images_keep_their_proportions() -> None:
    pixels = picture(16, (100, 50))
    (crop,) = cut(pixels, CropSettings(crops="whole", crop_size=40), rng())
    np.testing.assert_array_equal(crop.pixels, np.pad(resize_crop(pixels, (40, 20)), ((0, 0), (10, 10))))


def test_sizes_differ_by_dimensions_unless_given() -> None:
    assert [CropSettings().size(2), CropSettings().size(3), CropSettings(crop_size=7).size(3)] == [512, 96, 7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crops": "random"}, "tissue, whole"),
        ({"crop_size": 0}, "positive"),
        ({"crops_per_image": 0}, "positive"),
        ({"min_tissue": 0.0}, "min_tissue"),
        ({"spatial_dims": 4}, "2 or 3"),
        ({"intensity": "log"}, "intensity"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CropSettings(**wrong)


def test_a_record_tells_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    header = {"ImageLaterality": "L", "ViewPosition": "CC", "PixelSpacing": [0.1, 0.2]}
    write_dicom(tmp_path / "in/a b.dcm", picture(16, (80, 64)), **header)
    settings = CropSettings(crops="whole", crop_size=40)
    record = prepare_image("a b.dcm", tmp_path / "in", Records(tmp_path / "out"), settings, b"key")
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
    records = Records(tmp_path / "out")
    outputs = {
        name for source in sources for name in prepare_image(source, tmp_path, records, CropSettings(), b"").outputs
    }
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
    record = prepare_image("a.png", tmp_path, Records(tmp_path / "out"), settings, b"")
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
    record = prepare_image("a.png", tmp_path, Records(tmp_path / "out"), CropSettings(**settings), b"")
    assert record.outputs == ()
    assert record.reason.startswith(reason)
    assert not (tmp_path / "out/images").exists()


def test_dark_images_are_marked(tmp_path: Path) -> None:
    for name, high in (("dark", 16383), ("bright", 16384)):
        Image.fromarray(np.array([[0, high]], np.uint16)).save(tmp_path / f"{name}.png")
        record = prepare_image(f"{name}.png", tmp_path, Records(tmp_path / "out"), CropSettings(), b"")
        assert record.dark == (name == "dark")
