import numpy as np
import pandas as pd
import pytest

from miram.metrics.bootstrap import Bootstrap
from miram.metrics.segmentation import evaluate_segmentation

BOOTSTRAP = Bootstrap(n_resamples=100, min_patients=2)
NAN = float("nan")


def rows(*values):
    return pd.DataFrame(values, columns=["image", "patient", "lesion", "dice", "hd95", "predicted"])


def test_a_lesion_has_the_mean_of_its_views_and_an_image_without_a_name_is_its_own():
    found = evaluate_segmentation(
        rows(
            ("a.png", "a", "a/1", 0.8, 4.0, 0.1),
            ("b.png", "a", "a/1", 0.4, NAN, 0.1),
            ("c.png", "b", None, 0.0, NAN, 0.0),
            ("d.png", "b", None, 0.6, 8.0, 0.1),
        ),
        BOOTSTRAP,
    )
    assert found["levels"]["image"]["dice"]["value"] == pytest.approx(0.45)
    assert found["levels"]["lesion"]["dice"]["value"] == pytest.approx((0.6 + 0.0 + 0.6) / 3)
    assert found["levels"]["lesion"]["dice"]["n_units"] == 3
    assert found["levels"]["image"]["hd95"]["value"] == 6  # of those with a prediction
    assert found["levels"]["image"]["touched"]["value"] == 0.75
    assert found["counts"] == {"images": 4, "images without a lesion": 0, "lesions": 3, "patients": 2}
    assert found["false_alarms"]["reason"] == "no patients"


def test_predictions_where_there_is_no_lesion_are_counted():
    free = [(f"{n}.png", f"p{n}", None, NAN, NAN, 0.2 * (n < 3)) for n in range(4)]
    found = evaluate_segmentation(rows(("a.png", "a", "1", 0.5, 1.0, 0.1), *free), BOOTSTRAP)
    assert found["false_alarms"]["value"] == 0.75
    assert found["counts"]["images without a lesion"] == 4


def test_intervals_are_over_patients():
    random = np.random.default_rng(0)
    table = rows(*[(f"{n}.png", f"p{n // 2}", None, random.random(), 3.0, 0.1) for n in range(40)])
    dice = evaluate_segmentation(table, BOOTSTRAP)["levels"]["image"]["dice"]
    assert dice["low"] < dice["value"] < dice["high"]
    assert dice["n_patients"] == 20
