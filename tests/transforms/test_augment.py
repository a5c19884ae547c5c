import itertools

import pytest
import torch

from miram.transforms.augment import RandomFlipRotate90


def test_every_image_is_flipped_and_turned_for_itself():
    image = torch.arange(9.0).view(1, 1, 3, 3).expand(64, -1, -1, -1)
    result = RandomFlipRotate90(seed=2)(image, 1, torch.arange(64))
    possible = [image[0].flip(axes).rot90(turns, (-2, -1)) for axes in ((), (-1,)) for turns in range(4)]
    found = [next(number for number, one in enumerate(possible) if torch.equal(one, other)) for other in result]
    assert set(found) == set(range(8))


def test_what_is_drawn_follows_from_seed_epoch_and_sample():
    image = torch.randn(8, 1, 4, 4)
    augment = RandomFlipRotate90(seed=2)
    result = augment(image, 3, torch.arange(8))
    assert torch.equal(result[5:6], augment(image[5:6], 3, torch.tensor([5])))
    for other in (augment(image, 4, torch.arange(8)), RandomFlipRotate90(seed=1)(image, 3, torch.arange(8))):
        assert not torch.equal(result, other)


@pytest.mark.parametrize(("flip", "rotate"), itertools.product((0.0, 1.0), (0.0, 1.0)))
def test_probabilities_are_kept(flip, rotate):
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(4000, -1, -1, -1)
    result = RandomFlipRotate90(flip_prob=flip, rotate_prob=rotate)(image, 1, torch.arange(4000))
    kinds, counts = result.flatten(1).unique(dim=0, return_counts=True)
    unturned = image[0].flip((-1, -2)) if flip else image[0]
    assert any(torch.equal(kind, unturned.flatten()) for kind in kinds) == (not rotate)
    assert len(kinds) == (3 if rotate else 1)
    # three turns are a third each; deviation of a count sqrt(4000 x 2 / 9) = 30, 5 of them
    assert (counts - 4000 / len(kinds)).abs().max() < 150


def test_validation_is_left_alone():
    image = torch.randn(4, 1, 4, 4)
    assert torch.equal(RandomFlipRotate90()(image, 0, torch.arange(4)), image)


def test_images_whose_sides_differ_are_flipped_and_not_turned():
    image = torch.arange(6.0).view(1, 1, 2, 3).expand(64, -1, -1, -1)
    result = RandomFlipRotate90(seed=2)(image, 1, torch.arange(64))
    possible = [image[0].flip(axes) for axes in ((), (-1,), (-2,), (-1, -2))]
    found = {next(number for number, one in enumerate(possible) if torch.equal(one, other)) for other in result}
    assert found == set(range(4))
