import numpy as np
import pytest
import torch
from monai.transforms import Compose

from miram.errors import InputError
from miram.transforms.token_maps import RandTokenCrop, load_token_map

PITCH = 4
LESION = (24, 40, 36, 56)  # x0, y0, x1, y1 in pixels: columns 6 to 9 and rows 10 to 14 of the map


@pytest.fixture
def sample(tmp_path):
    values = np.zeros((2, 20, 16), np.float16)
    values[0, 10:14, 6:9] = 1
    values[1, 2:18, 1:12] = 1
    np.save(tmp_path / "a.npy", values)
    return {"image": "a.png", "map": str(tmp_path / "a.npy"), "boxes": np.array([LESION, [np.nan] * 4])}


def cropped(sample, number, **arguments):
    crop = Compose([RandTokenCrop(**{"size": (8, 6), "pixels_per_token": PITCH, **arguments})])
    return crop.set_random_state(seed=number)(sample)


def known(boxes):
    return boxes[~boxes[:, 0].isnan()].numpy()


def test_a_whole_map_keeps_its_boxes(sample):
    loaded = load_token_map(sample)
    assert loaded["map"].shape == (2, 20, 16)
    np.testing.assert_array_equal(known(loaded["boxes"]), [LESION])


def test_boxes_stay_on_the_tokens_of_their_lesion(sample):
    seen = set()
    for number in range(40):
        crop = cropped(sample, number, lesion_share=1.0)
        assert crop["map"].shape == (2, 8, 6)
        assert crop["boxes"].shape == (2, 4)
        marked = torch.zeros(8, 6)
        for x0, y0, x1, y1 in (known(crop["boxes"]) / PITCH).round().astype(int):
            marked[y0:y1, x0:x1] = 1
        torch.testing.assert_close(marked, crop["map"][0])
        seen.add(tuple(map(tuple, crop["map"][0].tolist())))
    assert len(seen) > 10  # crops differ


def test_a_lesion_may_come_on_each_side_of_a_crop(sample):
    """The size of the crop is that of the map: only mirroring moves the lesion."""
    centers = set()
    for number in range(30):
        (x0, y0, x1, y1), *_ = known(cropped(sample, number, size=(20, 16))["boxes"]).tolist()
        centers.add(((x0 + x1) / 2, (y0 + y1) / 2))
    assert centers == {(x, y) for x in (30, 16 * PITCH - 30) for y in (48, 20 * PITCH - 48)}


def test_the_share_says_how_often_a_crop_is_around_a_lesion(sample):
    """A crop of two tokens shows the lesion only if it was meant to."""
    shown = [cropped(sample, number, size=(2, 2), lesion_share=0.0)["map"][0].any() for number in range(40)]
    meant = [cropped(sample, number, size=(4, 4), lesion_share=1.0)["map"][0].any() for number in range(40)]
    assert np.mean(shown) < 0.5
    assert all(meant)
    with pytest.raises(InputError, match="a share from 0 to 1"):
        RandTokenCrop((8, 6), PITCH, lesion_share=2)


def test_without_a_lesion_a_crop_shows_the_breast(sample):
    for number in range(20):
        crop = cropped(sample | {"boxes": np.full((1, 4), np.nan)}, number)
        assert crop["map"][1].any()
        assert len(known(crop["boxes"])) == 0


def test_a_small_map_is_filled_up_with_zeros(sample):
    crop = cropped(sample, 0, size=(32, 24))
    assert crop["map"].shape == (2, 32, 24)
    assert crop["map"][0].sum() == 12


def test_the_size_is_even():
    with pytest.raises(InputError, match="multiples of 2"):
        RandTokenCrop((7, 6), PITCH)
