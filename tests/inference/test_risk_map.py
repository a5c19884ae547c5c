import numpy as np
import pytest
import torch

from miram.data.tasks import Task
from miram.errors import InputError
from miram.inference.calibrated import Calibration
from miram.inference.mammograms import whole_breast
from miram.inference.risk_map import (
    ClassProbability,
    RiskMapInferer,
    mapped_class,
    operating_point,
    roi_size,
)
from miram.transforms.crops import crop_at

WINDOW = 32


def breast(shape=(160, 120), width=80):
    """Noisy tissue along the left edge, in air."""
    image = np.zeros(shape, np.float32)
    tissue = np.random.default_rng(0).integers(20_000, 30_000, size=(shape[0] - 20, width))
    image[10:-10, :width] = tissue
    return image


def mean_of_window(windows):
    """Stands for a network: the mean of each window, as a logit (B, 1)."""
    return windows.mean(dim=(1, 2, 3))[:, None] / 65535


def make(overlap=0.75, sw_batch_size=5, roi_size=(WINDOW, WINDOW)):
    return RiskMapInferer(roi_size, overlap, sw_batch_size, lambda x: x, lambda logits: logits[:, 0], progress=False)


def as_batch(image):
    return torch.from_numpy(image)[None, None]


def test_the_value_at_a_centre_is_the_networks_for_the_window_around_it():
    image = breast()
    found = make()(as_batch(image), mean_of_window)[0, 0].numpy()
    for row, column in ((48, 40), (80, 32), (112, 56)):  # even sizes: such a centre is the corner of four pixels
        expected = crop_at(image, (row, column), WINDOW).mean() / 65535
        # half a pixel from the centre, of 8 to the next one, where the mean of a window is nearly the same
        assert found[row - 1 : row + 1, column - 1 : column + 1].mean() == pytest.approx(expected, rel=1e-3)


def test_beyond_the_outer_centres_the_window_at_the_edge_counts():
    image = breast()
    found = make()(as_batch(image), mean_of_window)[0, 0].numpy()
    expected = crop_at(image, (80, 0), WINDOW).mean() / 65535
    np.testing.assert_allclose(found[79:81, :15].mean(axis=0), expected, rtol=1e-4)


def test_outside_the_breast_the_map_is_zero_and_inside_it_is_not():
    image = breast()
    found = make()(as_batch(image), mean_of_window)[0, 0].numpy()
    np.testing.assert_array_equal(found > 0, whole_breast(image))


def test_only_windows_of_the_breast_are_judged_in_batches_of_the_given_size():
    sizes = []

    def network(windows):
        sizes.append(len(windows))
        assert windows.amax(dim=(1, 2, 3)).min() > 0
        return mean_of_window(windows)

    make(sw_batch_size=7)(as_batch(breast(width=30)), network)
    assert set(sizes[:-1]) == {7}
    assert 1 <= sizes[-1] <= 7
    # 17 rows of windows, of which the breast touches all; 12 columns, of which it reaches over 3 cells
    assert sum(sizes) == 17 * 3


def test_the_map_does_not_depend_on_the_batch():
    image = as_batch(breast())
    one, many = (make(sw_batch_size=size)(image, mean_of_window) for size in (1, 64))
    torch.testing.assert_close(one, many, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(20, 20), (20, 100), (100, 20)])
def test_an_image_smaller_than_a_window_lies_in_air(shape):
    image = np.zeros(shape, np.float32)
    image[4:16, 4:16] = 40_000
    found = make()(as_batch(image), mean_of_window)[0, 0].numpy()
    expected = crop_at(image, (10, 10), WINDOW).mean() / 65535
    assert found.shape == shape
    assert found.max() == pytest.approx(expected, rel=1e-4)


def test_the_region_of_a_bright_place_is_found():
    image = breast()
    image[100:110, 40:50] = 65_535
    inferer = make()
    found = inferer(as_batch(image), mean_of_window)[0, 0].numpy()
    best = inferer.regions(found, count=1)[0]
    # any window that holds the whole square is as bright: it reaches 32 - 10 pixels, half of it to each side
    assert (best.row, best.column) == pytest.approx((104.5, 44.5), abs=(WINDOW - 10) / 2 + 1)


def test_an_image_without_a_breast_is_an_error():
    with pytest.raises(InputError, match="no breast"):
        make()(torch.full((1, 1, 64, 64), 9.0), mean_of_window)


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (1, 1, 8, 40, 40), (1, 40, 40)])
def test_only_gray_2d_images_are_mapped(shape):
    with pytest.raises(InputError, match="gray 2D images"):
        make()(torch.zeros(shape), mean_of_window)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": "much"}, "overlap"),
        ({"sw_batch_size": 0}, "sw_batch_size"),
    ],
)
def test_settings_that_make_no_windows_are_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        make(**arguments)


def test_a_model_of_volumes_is_refused():
    with pytest.raises(InputError, match="2D"):
        make(roi_size=(8, 8, 8))


@pytest.mark.parametrize(("zoom", "expected"), [(1.0, (448, 448)), (0.5, (896, 896)), (2, (224, 224))])
def test_a_window_shows_as_much_tissue_whatever_the_source(zoom, expected):
    assert roi_size((448, 448), zoom) == expected


@pytest.mark.parametrize("zoom", [0, -1, float("nan"), float("inf"), "half"])
def test_a_zoom_is_a_positive_number(zoom):
    with pytest.raises(InputError, match="zoom"):
        roi_size((448, 448), zoom)


BINARY = Task("p", "binary", ("BENIGN", "MALIGNANT"))
MULTI = Task("d", "multiclass", ("a", "b", "c"))


def test_the_mapped_class_is_the_positive_one_or_named():
    assert mapped_class(BINARY) == "MALIGNANT"
    assert mapped_class(MULTI, "b") == "b"
    with pytest.raises(InputError, match=r"several classes; give --mapped_class one of a, b, c"):
        mapped_class(MULTI)
    with pytest.raises(InputError, match="no probability of 'BENIGN'"):
        mapped_class(BINARY, "BENIGN")


def test_the_probability_is_the_tasks_with_its_calibration():
    logits = torch.tensor([[0.5, 2.0, -1.0]])
    expected = torch.softmax(logits / 2, dim=1)[:, 1]
    torch.testing.assert_close(ClassProbability(MULTI, Calibration([0.5], [0.0]), "b")(logits), expected)
    torch.testing.assert_close(
        ClassProbability(BINARY, Calibration(), "MALIGNANT")(logits[:, :1]), torch.tensor([0.5]).sigmoid()
    )


def test_the_label_begins_at_the_models_operating_point_or_the_given_one():
    fitted = Calibration(thresholds={"image": {"MALIGNANT": 0.3}})
    assert operating_point(fitted, "MALIGNANT") == 0.3
    assert operating_point(Calibration(), "MALIGNANT") == 0.5
    assert operating_point(fitted, "MALIGNANT", 0.8) == 0.8
    for wrong in (0, -0.1, 1.1, float("nan"), "high"):
        with pytest.raises(InputError, match="threshold"):
            operating_point(fitted, "MALIGNANT", wrong)
