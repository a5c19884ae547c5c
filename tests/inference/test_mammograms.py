import nibabel
import numpy as np
import pytest
import torch
from monai.data import ITKReader, MetaTensor
from PIL import Image

from miram.errors import InputError
from miram.inference.mammograms import (
    BreastOnlyd,
    LoadMammogramd,
    ToSourceGridd,
    find_mammograms,
    smallest_size,
    whole_breast,
)
from miram.prepare.prepared import write_png16, write_volume
from miram.transforms.crops import breast_mask

from ..image_files import picture, write_dicom


def breast(shape=(90, 70)):
    """Bright tissue at the left edge, in air."""
    image = np.zeros(shape, np.uint16)
    image[10:-10, : shape[1] // 2] = 20_000 + picture(shape=(shape[0] - 20, shape[1] // 2)) // 3
    return image


def load(path):
    return LoadMammogramd("image")({"image": str(path)})


def as_itk_reads(path):
    reader = ITKReader()
    return reader.get_data(reader.read(str(path)))


def test_what_cannot_be_mapped_is_left_out_with_the_reason(tmp_path):
    write_png16(tmp_path / "a.png", breast())
    write_png16(tmp_path / "black.png", np.zeros((40, 30), np.uint16))
    dot = np.zeros((400, 300), np.uint16)
    dot[7, 7] = 60_000
    write_png16(tmp_path / "dot.png", dot)
    write_volume(tmp_path / "volume.nii.gz", picture(shape=(8, 8, 8)), None)
    Image.fromarray(np.random.default_rng(0).integers(255, size=(40, 40, 3)).astype(np.uint8)).save(
        tmp_path / "color.png"
    )
    sheared = np.array([[1, 0.9, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(breast().T[:, :, None], sheared), tmp_path / "sheared.nii.gz")
    (tmp_path / "notes.txt").write_text("no image")
    found = find_mammograms(tmp_path)
    assert found.names == ["a.png"]
    reasons = {"black.png": "the same value", "dot.png": "no breast", "volume.nii.gz": "a volume", "color.png": "color"}
    reasons["sheared.nii.gz"] = "geometry"
    assert found.problems.keys() == reasons.keys()
    for name, text in reasons.items():
        assert text in found.problems[name]


def test_a_crop_is_refused_where_whole_views_are_taken_and_told_where_to_go(tmp_path):
    write_png16(tmp_path / "a.png", breast())
    assert find_mammograms(tmp_path / "a.png", smallest_view=90).names == ["a.png"]
    with pytest.raises(InputError, match=r"a\.png .*looks like a crop.*inference\.yaml.*--smallest_view"):
        find_mammograms(tmp_path / "a.png", smallest_view=91)


def test_a_map_is_0_outside_the_breast_only(tmp_path):
    write_png16(tmp_path / "a.png", breast())
    data = {**load(tmp_path / "a.png"), "pred": torch.full((1, 90, 70), 0.5)}
    found = BreastOnlyd("pred")(data)["pred"]
    np.testing.assert_array_equal(found.numpy()[0], 0.5 * whole_breast(breast()))


def test_dark_bays_within_the_breast_belong_to_it():
    image = np.zeros((700, 500), np.uint16)
    image[50:650, :300] = 30_000
    image[300:320, :40] = 0  # opens to the edge of the image
    image[200:220, 150:200] = 0  # a hole
    expected = np.zeros(image.shape, bool)
    expected[50:650, :300] = True
    assert not breast_mask(image)[310, 20]
    # on a copy of half the size, outlines are as fine as two pixels, and corners lose some
    assert (whole_breast(image) != expected).mean() < 0.005
    assert whole_breast(image)[300:320, :40].all()


def test_nothing_is_added_to_a_breast_without_bays_or_to_none():
    image = np.zeros((700, 500), np.uint16)
    image[50:650, :300] = 30_000
    np.testing.assert_array_equal(whole_breast(image), breast_mask(image))
    with pytest.raises(InputError, match="no breast was found"):
        whole_breast(np.zeros((700, 500), np.uint16))


def test_an_image_smaller_than_two_windows_or_half_of_a_training_view_is_taken_for_a_crop():
    assert smallest_size([30, 40]) == 80
    assert smallest_size([30, 40], {"crop_size": 200}) == 80
    assert smallest_size([30, 40], {"crop_size": 100}) == 50
    assert smallest_size([30, 40], {"crop_size": 200, "smallest_view": 60}) == 60


def test_a_color_image_is_refused_and_not_read_otherwise(tmp_path):
    path = tmp_path / "color.png"
    Image.fromarray(np.random.default_rng(0).integers(255, size=(40, 40, 3)).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match="color image"):
        load(path)


def test_a_picture_has_two_axes_columns_first(tmp_path):
    write_png16(tmp_path / "a.png", breast())
    data = load(tmp_path / "a.png")
    image = data["image"]
    np.testing.assert_array_equal(image.numpy(), breast()[None])
    assert image.meta["spatial_shape"].tolist() == [70, 90]
    pred = ToSourceGridd("pred")({**data, "pred": torch.from_numpy(breast()[None].astype(np.int32))})["pred"]
    np.testing.assert_array_equal(pred.numpy(), breast().T)


@pytest.mark.parametrize("suffix", ["dcm", "nii.gz", "mha", "nrrd"])
def test_a_single_slice_keeps_the_grid_on_which_itk_reads_it(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "dcm":
        write_dicom(path, breast(), ImagerPixelSpacing=[0.07, 0.05])
    elif suffix == "nii.gz":
        affine = np.array([[0, -0.07, 0, 3], [-0.05, 0, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
        nibabel.save(nibabel.Nifti1Image(breast().T[:, :, None], affine), path)
    else:
        import itk

        volume = itk.image_from_array(breast()[None])
        volume.SetSpacing([0.05, 0.07, 2.0])
        volume.SetOrigin([1.0, 2.0, 3.0])
        itk.imwrite(volume, str(path))
    data = load(path)
    pred = ToSourceGridd("pred")({**data, "pred": data["image"].as_tensor()})["pred"]
    values, meta = as_itk_reads(path)
    assert pred.shape == (1, 70, 90, 1)
    np.testing.assert_array_equal(pred[0].numpy(), values.reshape(70, 90, 1))
    found = np.asarray(data["image"].meta["original_affine"])
    np.testing.assert_allclose(found, meta["original_affine"], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:3, :2], axis=0), [0.05, 0.07], atol=1e-6)


def test_an_inverted_dicom_is_bright_where_the_breast_is(tmp_path):
    write_dicom(tmp_path / "a.dcm", 65535 - breast(), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(load(tmp_path / "a.dcm")["image"].numpy()[0], breast())


def test_the_grid_is_known_where_metadata_are_not_tracked(tmp_path):
    from monai.data import get_track_meta, set_track_meta

    write_png16(tmp_path / "a.png", breast())
    before = get_track_meta()
    try:
        set_track_meta(False)
        assert isinstance(load(tmp_path / "a.png")["image"], MetaTensor)
    finally:
        set_track_meta(before)
