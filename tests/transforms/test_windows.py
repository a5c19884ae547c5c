import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd

from miram.errors import InputError
from miram.transforms.windows import center_windows, load_windows, random_window, scale_windows

PREPROCESSING = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0, "image_size": [2, 2]}


def test_a_small_image_is_padded_with_air_and_scaled():
    load = {"a": torch.full((1, 2, 4), 65535.0)}
    steps = [*load_windows("image", lambda sample: {"image": load[sample["image"]]}, [4, 4])]
    window = Compose([*steps, *scale_windows("image", PREPROCESSING)])({"image": "a"})["image"]
    assert window.shape == (1, 4, 4)
    assert window[0, :, 0].tolist() == [-2.0, 2.0, 2.0, -2.0]  # air is the lowest input


def test_the_window_is_cut_from_the_middle():
    image = torch.arange(36.0).reshape(1, 6, 6)
    window = Compose(center_windows("image", [2, 2]))({"image": image})["image"]
    assert window.tolist() == [[[14.0, 15.0], [20.0, 21.0]]]


def drawn(window, image, seed):
    window.set_random_state(seed=seed)
    return window({"label": image})["label"]


def test_without_crop_area_it_is_monais_random_crop():
    image = torch.randn(1, 20, 20)
    plain = RandSpatialCropd("label", (8, 8), random_size=False)
    assert torch.equal(drawn(random_window("label", (8, 8)), image, 3), drawn(plain, image, 3))


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_have_areas_in_the_range_and_one_shape(dims):
    """On a ramp along each axis, the ends of the resized window say where it was."""
    axes = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * dims, indexing="ij"))
    window = random_window("label", [24] * dims, (0.3, 1.0))
    areas = []
    for seed in range(60):
        values = drawn(window, axes, seed)
        assert values.shape == (dims, *[24] * dims)
        sides = (values.flatten(1).amax(1) - values.flatten(1).amin(1)) / 23 * 24  # from centre to centre of pixels
        assert sides.max() - sides.min() < 1.5  # the same along each axis; smoothing bends the ends of a ramp
        areas.append((sides.mean().item() / 24) ** dims)
        assert values.min() >= 0
        assert values.max() <= 39 + 1e-4
    assert 0.25 < min(areas) < 0.45
    assert 0.85 < max(areas) < 1.05
    assert np.mean(areas) == pytest.approx(0.65, abs=0.1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_larger_window_is_smoothed_before_it_shrinks_and_stays_inside(dims):
    checkers = sum(torch.meshgrid(*[torch.arange(32)] * dims, indexing="ij"))[None] % 2 * 2.0 - 1
    values = drawn(random_window("label", [16] * dims, (4.0, 9.0)), checkers, 0)
    assert values.shape == (1, *[16] * dims)
    assert values.abs().mean() < 0.4  # without smoothing, every other pixel: 1


def test_draws_follow_from_the_state():
    image = torch.randn(1, 40, 40)
    window = random_window("label", (16, 16), (0.3, 1.0))
    assert torch.equal(drawn(window, image, 1), drawn(window, image, 1))
    assert not torch.equal(drawn(window, image, 1), drawn(window, image, 2))


@pytest.mark.parametrize("area", [[0, 1], [1, 0.5], [0.5]])
def test_bad_areas_are_refused(area):
    with pytest.raises(InputError, match="crop_area is"):
        random_window("label", (8, 8), area)
