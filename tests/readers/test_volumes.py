"""NIfTI, MHA, MHD and NRRD: orientation, spacing, refusals."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest

from miram.errors import InputError
from miram.readers.volumes import read_itk, read_nifti

from ..image_files import picture

LIMIT = 10**6
SHAPE = (20, 24, 7)


def test_nifti_is_brought_to_ras(tmp_path: Path) -> None:
    volume = picture(16, SHAPE)
    # On disk: first axis to the left, second to the foot, third to the front.
    affine = np.array([[-0.5, 0, 0, 0], [0, 0, 2.0, 0], [0, -0.7, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "a.nii.gz")
    image = read_nifti(tmp_path / "a.nii.gz", LIMIT)
    np.testing.assert_array_equal(image.pixels, volume[::-1, ::-1].transpose(0, 2, 1))
    assert image.spacing == pytest.approx((0.5, 2.0, 0.7), rel=1e-6)


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nii.gz"])
def test_formats_agree_on_a_volume(tmp_path: Path, suffix: str) -> None:
    volume = picture(16, SHAPE)
    image = itk.image_from_array(volume.transpose(2, 1, 0).copy())
    image.SetSpacing([0.5, 0.6, 2.0])
    path = tmp_path / f"a.{suffix}"
    itk.imwrite(image, str(path))
    read = (read_nifti if suffix == "nii.gz" else read_itk)(path, LIMIT)
    # itk's axes run to the left, back and head: two of them turn round.
    np.testing.assert_array_equal(read.pixels, volume[::-1, ::-1])
    assert read.spacing == pytest.approx((0.5, 0.6, 2.0), rel=1e-6)


@pytest.mark.parametrize(("suffix", "slices"), [("mha", 0), ("mha", 1), ("nrrd", 0), ("nii.gz", 0), ("nii.gz", 1)])
def test_single_slices_are_images_as_written(tmp_path: Path, suffix: str, slices: int) -> None:
    stored = picture(16)
    image = itk.image_from_array(stored[None] if slices else stored)
    image.SetSpacing([0.05, 0.07, 1.0][: 2 + slices])
    path = tmp_path / f"a.{suffix}"
    itk.imwrite(image, str(path))
    read = (read_nifti if suffix == "nii.gz" else read_itk)(path, LIMIT)
    np.testing.assert_array_equal(read.pixels, stored)
    assert read.spacing == pytest.approx((0.07, 0.05), rel=1e-6)


def test_scaled_and_float_values_are_stretched(tmp_path: Path) -> None:
    volume = nibabel.Nifti1Image(picture(8, SHAPE), np.eye(4))
    volume.header.set_slope_inter(2.0, -5.0)
    nibabel.save(volume, tmp_path / "scaled.nii")
    nibabel.save(nibabel.Nifti1Image(picture(8, SHAPE).astype(np.float32), np.eye(4)), tmp_path / "float.nii")
    scaled, plain = (read_nifti(tmp_path / f"{name}.nii", LIMIT) for name in ("scaled", "float"))
    assert scaled.scaling == plain.scaling == "percentiles 0.5-99.5"


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full(SHAPE, np.nan, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii holds values that are not finite"):
        read_nifti(tmp_path / "a.nii", LIMIT)


def test_time_series_and_claims_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.uint8), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="4 axes"):
        read_nifti(tmp_path / "a.nii", LIMIT)
    with pytest.raises(InputError, match="4x4x4x3 pixels, more than max_pixels=50"):
        read_nifti(tmp_path / "a.nii", 50)
    itk.imwrite(itk.image_from_array(np.zeros((4, 4, 4), np.uint8)), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="4x4x4 pixels, more than max_pixels=50"):
        read_itk(tmp_path / "a.mha", 50)


def test_colored_itk_images_are_refused(tmp_path: Path) -> None:
    itk.imwrite(itk.image_from_array(np.zeros((4, 4, 3), np.uint8), is_vector=True), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="several values per pixel"):
        read_itk(tmp_path / "a.mha", LIMIT)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "nrrd"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    itk.imwrite(itk.image_from_array(picture(16, SHAPE)), str(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"a.{suffix}"):
        (read_itk if suffix in ("mha", "nrrd") else read_nifti)(path, LIMIT)


def packed_volume(path: Path) -> bytes:
    """Write a compressed volume of noise; what is in the file."""
    values = np.random.default_rng(0).integers(0, 3000, (16, 14, 8)).astype(np.int16)
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    else:
        itk.imwrite(itk.image_from_array(values), str(path), compression=True)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path: Path, name: str) -> None:
    content = packed_volume(tmp_path / name)
    rng = np.random.default_rng(1)
    for place in [len(content) - 8, len(content) - 1, *rng.integers(len(content) // 2, len(content), 60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            (read_nifti if name == "a.nii.gz" else read_itk)(tmp_path / name, LIMIT)


@pytest.mark.parametrize(("name", "missing"), product(["a.nii.gz", "a.mha", "a.nrrd"], [1, 4, 100]))
def test_compressed_voxels_without_their_end_are_refused(tmp_path: Path, name: str, missing: int) -> None:
    (tmp_path / name).write_bytes(packed_volume(tmp_path / name)[:-missing])
    with pytest.raises(InputError, match=name):
        (read_nifti if name == "a.nii.gz" else read_itk)(tmp_path / name, LIMIT)


@pytest.mark.parametrize("tail", [b"garbage", gzip.compress(bytes(2**27))], ids=["garbage", "far more"])
def test_what_follows_the_voxels_of_a_nifti_is_looked_at(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(packed_volume(tmp_path / "a.nii.gz") + tail)
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        read_nifti(tmp_path / "a.nii.gz", LIMIT)


def test_a_detached_compressed_nrrd_is_read_and_checked(tmp_path: Path) -> None:
    content = packed_volume(tmp_path / "a.nrrd")
    head, voxels = content[: content.index(b"\n\n")], content[content.index(b"\n\n") + 2 :]
    (tmp_path / "a.nhdr").write_bytes(head + b"\ndata file: a.raw.gz\n\n")
    (tmp_path / "a.raw.gz").write_bytes(voxels)
    np.testing.assert_array_equal(
        read_itk(tmp_path / "a.nhdr", LIMIT).pixels, read_itk(tmp_path / "a.nrrd", LIMIT).pixels
    )
    (tmp_path / "a.raw.gz").write_bytes(voxels[:-5] + bytes([voxels[-5] ^ 1]) + voxels[-4:])
    with pytest.raises(InputError, match=r"a\.nhdr"):
        read_itk(tmp_path / "a.nhdr", LIMIT)
