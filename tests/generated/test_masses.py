import numpy as np
import pytest
from scipy import ndimage

from miram.generated.masses import draw_mass, sector_of

MARGINS = ("CIRCUMSCRIBED", "OBSCURED", "ILL_DEFINED", "MICROLOBULATED", "SPICULATED", "N/A")
SHAPES = (
    "ROUND",
    "OVAL",
    "LOBULATED",
    "IRREGULAR",
    "ARCHITECTURAL_DISTORTION",
    "LYMPH_NODE",
    "FOCAL_ASYMMETRIC_DENSITY",
    "ASYMMETRIC_BREAST_TISSUE",
    "N/A",
)


def mass(margin="CIRCUMSCRIBED", shape="OVAL", seed=0, radius=40.0):
    return draw_mass((shape,), (margin,), radius, 0.12, np.random.default_rng(seed))


def edge_step(lesion, where=True):
    """How much brighter the last pixels inside the outline are than the first outside, relative to the contrast."""
    depth = ndimage.distance_transform_edt(lesion.mask) - ndimage.distance_transform_edt(~lesion.mask)
    inside, outside = (depth >= 3) & (depth < 6), (depth <= -1) & (depth > -4)
    return (lesion.contrast[inside & where].mean() - lesion.contrast[outside & where].mean()) / 0.12


def outside_detail(lesion):
    """Fine detail in the surroundings, relative to the contrast."""
    outside = ~ndimage.binary_dilation(lesion.mask, iterations=8)
    fine = lesion.contrast - ndimage.gaussian_filter(lesion.contrast, 2)
    return fine[outside].std() / 0.12


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("shape", SHAPES)
def test_mean_contrast_and_area_do_not_tell_the_label(margin, shape):
    lesion = mass(margin, shape, seed=1)
    assert lesion.contrast.shape == lesion.mask.shape
    assert lesion.contrast[lesion.mask].mean() == pytest.approx(0.12, rel=1e-4)
    # The outline of an irregular mass is random; its area is right on average only.
    assert lesion.mask.sum() == pytest.approx(np.pi * 41**2, rel=0.3)


def test_a_circumscribed_edge_is_sharper_than_an_ill_defined_one():
    sharp = np.mean([edge_step(mass("CIRCUMSCRIBED", seed=seed)) for seed in range(4)])
    soft = np.mean([edge_step(mass("ILL_DEFINED", seed=seed)) for seed in range(4)])
    assert sharp > 0.7
    assert soft < 0.35


def test_only_spiculated_masses_and_distortions_reach_into_the_surroundings():
    detail = {margin: outside_detail(mass(margin)) for margin in MARGINS}
    # Obscured and ill-defined masses have cloudy surroundings, but no lines.
    assert detail["SPICULATED"] > 2.5 * max(value for margin, value in detail.items() if margin != "SPICULATED")
    assert outside_detail(mass("N/A", "ARCHITECTURAL_DISTORTION")) > 5 * detail["N/A"]


def test_microlobulated_outlines_wind_more():
    def winding(lesion):
        outline = lesion.mask & ~ndimage.binary_erosion(lesion.mask)
        return outline.sum() ** 2 / lesion.mask.sum()

    lobed = [winding(mass("MICROLOBULATED", "ROUND", seed)) for seed in range(4)]
    smooth = [winding(mass("CIRCUMSCRIBED", "ROUND", seed)) for seed in range(4)]
    assert min(lobed) > 1.04 * max(smooth)


def test_obscured_masses_are_hidden_on_one_side():
    lesion = mass("OBSCURED", "ROUND")
    rows, columns = np.mgrid[: len(lesion.mask), : len(lesion.mask)] - len(lesion.mask) // 2
    sector = ((np.arctan2(rows, columns) + np.pi) // (np.pi / 4)).astype(int)
    steps = [edge_step(lesion, sector == k) for k in range(8)]
    assert max(steps) > 0.6
    assert min(steps) < 0.45


def test_two_margins_share_the_edge():
    both = draw_mass(("OVAL",), ("CIRCUMSCRIBED", "SPICULATED"), 40.0, 0.12, np.random.default_rng(0))
    assert outside_detail(mass("CIRCUMSCRIBED")) < outside_detail(both) < outside_detail(mass("SPICULATED"))


def test_sectors_are_equal_and_hold_every_direction():
    angle = np.linspace(-np.pi, np.pi, 1200, endpoint=False).astype(np.float32)
    counts = np.bincount(sector_of(angle, 3, 0.3))
    assert len(counts) == 3
    np.testing.assert_allclose(counts, 400, atol=1)
    assert sector_of(np.float32([-1e-9]), 1, 0.0).tolist() == [0]
