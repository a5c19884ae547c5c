import torch
from monai.transforms import Compose

from miram.transforms.windows import center_windows, load_windows, scale_windows

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
