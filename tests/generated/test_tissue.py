import numpy as np
import pytest

from miram.generated.anatomy import draw_anatomy
from miram.generated.tissue import draw_tissue


def draw(density, view="CC", seed=0, size=(480, 400)):
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(size, view, rng)
    return anatomy, draw_tissue(anatomy, density, rng)


def interior_mean(density, seed):
    anatomy, image = draw(density, seed=seed)
    return image[anatomy.depth > 30].mean()


def test_air_is_dark_and_tissue_is_not():
    anatomy, image = draw(2)
    assert image.dtype == np.float32
    assert image[anatomy.depth < -3].max() == 0
    assert image[anatomy.depth > 60].mean() > 0.25


def test_denser_breasts_are_brighter():
    means = [np.mean([interior_mean(density, seed) for seed in range(3)]) for density in (1, 2, 3, 4)]
    assert np.all(np.diff(means) > 0.01)


def test_muscle_is_brighter_than_fat():
    anatomy, image = draw(1, "MLO")
    deep = anatomy.depth > 60
    assert image[deep & (anatomy.muscle > 10)].mean() > image[deep & (anatomy.muscle < -10)].mean() + 0.05


def test_tissue_has_detail_that_half_the_resolution_loses():
    anatomy, image = draw(3)
    halved = image.reshape(240, 2, 200, 2).mean((1, 3)).repeat(2, 0).repeat(2, 1)
    deep = anatomy.depth > 40
    assert (image - halved)[deep].std() > 0.05 * image[deep].std()


@pytest.mark.parametrize("density", [1, 4])
def test_same_seed_same_picture(density):
    np.testing.assert_array_equal(draw(density)[1], draw(density)[1])
