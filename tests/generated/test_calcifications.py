import numpy as np
import pytest
from scipy import ndimage

from miram.generated.calcifications import draw_calcification
from miram.generated.statistics import Statistics

TYPES = tuple(Statistics().calcification.shape)
DISTRIBUTIONS = tuple(Statistics().calcification.margin)


def calcification(calc_type="PLEOMORPHIC", distribution="CLUSTERED", seed=0, direction=0.0):
    rng = np.random.default_rng(seed)
    return draw_calcification((calc_type,), (distribution,), 50.0, 0.05, direction, rng)


def grains(lesion):
    """Bright specks: label image and number."""
    return ndimage.label(lesion.contrast > 0.17)


@pytest.mark.parametrize("calc_type", TYPES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_mean_contrast_and_area_do_not_tell_the_label(calc_type, distribution):
    lesion = calcification(calc_type, distribution)
    assert lesion.contrast[lesion.mask].mean() == pytest.approx(0.05, abs=0.012)  # large calcifications may exceed it
    assert lesion.mask.sum() == pytest.approx(np.pi * 50**2, rel=0.05)


def test_specks_are_small_bright_and_inside_the_mask():
    lesion = calcification("PUNCTATE")
    labels, count = grains(lesion)
    assert 8 <= count <= 22
    assert max(np.bincount(labels.ravel())[1:]) < 20
    assert lesion.mask[labels > 0].all()


def test_types_differ_as_their_names_say():
    size = {name: np.median(np.bincount(grains(calcification(name))[0].ravel())[1:]) for name in ("PUNCTATE", "COARSE")}
    assert size["COARSE"] > 10 * size["PUNCTATE"]
    assert grains(calcification("AMORPHOUS"))[1] < grains(calcification("PLEOMORPHIC"))[1]  # too faint to count


def test_lucent_centres_are_darker_than_their_rims():
    labels, count = grains(calcification("EGGSHELL"))
    filled = ndimage.binary_fill_holes(labels > 0)
    assert count >= 1
    assert filled.sum() > 1.5 * (labels > 0).sum()


@pytest.mark.parametrize("direction", [0.0, np.pi / 2])
def test_linear_distributions_point_to_the_nipple(direction):
    rows, columns = np.nonzero(grains(calcification("PLEOMORPHIC", "LINEAR", direction=direction))[0])
    along, across = (columns, rows) if direction == 0 else (rows, columns)
    assert along.std() > 3 * across.std()


def test_clusters_are_tighter_than_diffuse_calcifications():
    def spread(distribution):
        rows, columns = np.nonzero(grains(calcification("PUNCTATE", distribution, seed=4))[0])
        return np.hypot(rows.std(), columns.std())

    assert spread("CLUSTERED") < 0.9 * spread("DIFFUSELY_SCATTERED")
