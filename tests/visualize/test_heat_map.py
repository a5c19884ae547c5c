import numpy as np
import pytest
from PIL import Image

from miram.visualize.heat_map import plot_risk_map


@pytest.mark.parametrize("shape", [(300, 200), (80, 400), (1500, 900)])
def test_the_hot_place_is_colored_in_the_map_and_not_beside_it(tmp_path, shape):
    image = np.full(shape, 100.0)
    heat = np.zeros(shape, np.float32)
    heat[: shape[0] // 2, : shape[1] // 2] = 1.0
    plot_risk_map(image, heat, [(3, 4)], tmp_path / "a.png", "a title", "malignant", 0.5, "a note")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    width = pixels.shape[1]
    colored = np.ptp(pixels, axis=2) > 30
    assert colored[:, : int(0.44 * width)].sum() == 0
    assert colored[:, int(0.46 * width) :].sum() > 1000


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_level_map_is_drawn_too(tmp_path, value):
    plot_risk_map(np.eye(40), np.full((40, 40), value), [], tmp_path / "a.png", "a title", "malignant", 0.5)
    assert (tmp_path / "a.png").stat().st_size > 10_000
