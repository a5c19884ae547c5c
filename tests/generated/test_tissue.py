import numpy as np
import pytest

from miram.generated.tissue import TissueSettings, draw_anatomy, draw_tissue


@pytest.fixture(params=[("CC", 0), ("CC", 1), ("MLO", 0), ("MLO", 1)], ids=str)
def anatomy(request):
    view, seed = request.param
    return draw_anatomy((400, 320), view, np.random.default_rng(seed))


def test_breast_touches_the_chest_wall_and_leaves_air(anatomy):
    inside = anatomy.depth > 0
    assert 0.2 < inside.mean() < 0.8
    assert inside[200, 0]
    assert not inside[:, -1].any()


def test_nipple_is_the_outermost_place(anatomy):
    row, column = (round(place) for place in anatomy.nipple)
    columns = np.flatnonzero((anatomy.depth > 0).any(axis=0))
    assert columns.max() == pytest.approx(column, abs=0.06 * 320)
    assert abs(anatomy.depth[row, column]) < 12


def test_depth_counts_pixels_to_the_skin_and_not_to_the_film_edge(anatomy):
    row = round(anatomy.middle[0])
    skin = int(np.flatnonzero(anatomy.depth[row] > 0).max())
    assert anatomy.depth[row, skin - 20] == pytest.approx(20, abs=5)  # the skin is not quite vertical
    assert anatomy.depth[row, 0] > 60


@pytest.mark.parametrize("position", [(0.15, -0.6), (0.5, 0.0), (0.8, 0.6)])
def test_a_lesion_is_placed_inside_the_breast_and_beside_the_muscle(anatomy, position):
    row, column = anatomy.place(position, 30)
    assert anatomy.depth[row, column] > 25
    assert anatomy.muscle is None or anatomy.muscle[row, column] < 0


def test_only_oblique_views_have_a_muscle_in_the_upper_corner():
    assert draw_anatomy((400, 320), "CC", np.random.default_rng(0)).muscle is None
    muscle = draw_anatomy((400, 320), "MLO", np.random.default_rng(0)).muscle
    assert muscle[0, 0] > 0 > muscle[-1, 0]
    assert muscle[0, -1] < 0


def draw(density, view="CC", seed=0, size=(480, 400)):
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(size, view, rng)
    return anatomy, draw_tissue(anatomy, density, rng, TissueSettings())


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
