import numpy as np
import pytest

from miram.generated.anatomy import draw_anatomy


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
