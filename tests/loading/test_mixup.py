import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandShiftIntensityd

from miram.loading.mixup import MixupDataset


def dataset(alpha, seed=0):
    """The image of sample i is full of i, its label one-hot."""
    data = [{"image": torch.full((1, 2, 2), float(i)), "label": np.eye(8, dtype=np.float32)[i]} for i in range(8)]
    return MixupDataset(data, Compose([]), seed=seed, alpha=alpha)


def test_without_alpha_samples_stay_as_they_are():
    sample = dataset(0)[(3, 5)]
    assert sample["image"].unique().tolist() == [5.0]
    assert sample["label"].tolist() == np.eye(8)[5].tolist()


def test_image_and_label_are_mixed_with_the_same_share():
    for index in range(8):
        sample = dataset(0.8)[(1, index)]
        assert sample["label"].sum() == pytest.approx(1)
        assert sample["image"].mean().item() == pytest.approx((sample["label"] * np.arange(8)).sum(), rel=1e-5)
        assert sample["label"].dtype == np.float32
        assert (sample["epoch"], sample["index"]) == (1, index)
    assert any((dataset(0.8)[(1, index)]["label"] > 0).sum() == 2 for index in range(8))


def test_mixtures_follow_from_seed_epoch_and_index():
    keys = [(epoch, index) for epoch in (1, 2) for index in range(8)]
    first, again = ([dataset(0.8)[key]["label"].tolist() for key in order] for order in (keys, keys))
    assert first == again
    backwards = dataset(0.8)
    assert [backwards[key]["label"].tolist() for key in reversed(keys)] == first[::-1]
    assert first[:8] != first[8:]
    assert [dataset(0.8, seed=1)[key]["label"].tolist() for key in keys] != first


def test_the_augmentation_of_the_first_image_is_that_without_mixing():
    data = [{"image": torch.zeros(1, 2, 2), "label": np.zeros(1, dtype=np.float32)}]
    transform = Compose([RandShiftIntensityd("image", prob=1.0, offsets=1.0)])
    plain = MixupDataset(data, transform, alpha=0)[(4, 0)]["image"]
    mixed = MixupDataset(data, transform, alpha=0.5)[(4, 0)]["image"]
    torch.testing.assert_close(mixed, plain)  # its only partner is itself


def test_alpha_is_not_negative():
    with pytest.raises(ValueError, match="must be 0"):
        dataset(-1)
