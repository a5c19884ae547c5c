import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from miram.visualize.contact_sheet import Case, overlay, plot_case, plot_contact_sheet


def test_an_overlay_is_the_image_where_it_is_cold_and_coloured_where_it_is_hot():
    image = np.linspace(-2, 2, 64).reshape(8, 8)
    heat = np.zeros((8, 8))
    heat[3, 4] = 5.0
    found = overlay(image, heat)
    gray = (image + 2) / 4
    cold = heat == 0
    np.testing.assert_allclose(found[cold], gray[cold][:, None].repeat(3, axis=1))
    hottest = np.array(colormaps["inferno"](1.0)[:3])
    np.testing.assert_allclose(found[3, 4], 0.25 * gray[3, 4] + 0.75 * hottest)


def test_an_image_of_one_value_and_a_map_of_zeros_are_drawn_black():
    assert overlay(np.full((4, 4), 7.0), np.zeros((2, 2))).max() == 0


@pytest.mark.parametrize(("count", "width", "height"), [(1, 690, 708), (6, 1656, 708), (7, 1656, 1320)])
def test_a_sheet_grows_by_rows(tmp_path, count, width, height):
    heats = [np.eye(2), None]
    cases = [Case(np.eye(16), heats[index % 2], "is benign", str(index)) for index in range(count)]
    plot_contact_sheet(cases, tmp_path / "sheet.png", "title", "note")
    assert Image.open(tmp_path / "sheet.png").size == (width, height)


def test_a_case_shows_the_image_and_its_overlay(tmp_path):
    image = np.zeros((16, 16))
    image[8:] = 1
    plot_case(Case(image, np.eye(2), "called", "name"), tmp_path / "case.png", "note")
    pixels = np.asarray(Image.open(tmp_path / "case.png").convert("RGB")).astype(int)
    colour = np.ptp(pixels, axis=2)
    middle = pixels.shape[1] // 2
    assert colour[:, :middle].max() == 0
    assert colour[:, middle:].max() > 100
