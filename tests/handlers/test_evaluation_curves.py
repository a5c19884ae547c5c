import numpy as np
import pandas as pd
import pytest

from miram.data.tasks import Task
from miram.handlers import evaluation_curves
from miram.handlers.evaluation_curves import draw_curves
from miram.metrics.evaluation import evaluate_predictions

TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
LABELS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
PROBABILITIES = [0.9, 0.8, 0.7, 0.2, 0.95, 0.6, 0.4, 0.3, 0.2, 0.1]  # from 0.5 on, 3 of 4 and 2 of 6


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw the curves of ten patients with an image each; returns what each plot was given."""

    def draw(**bootstrap):
        plots = {}
        monkeypatch.setattr(evaluation_curves, "plot_roc", lambda *given: plots.update(roc=given))
        monkeypatch.setattr(evaluation_curves, "plot_precision_recall", lambda *given: plots.update(recall=given))
        patients = [f"p{number}" for number in range(10)]
        content = {"image": patients, "patient": patients, "lesion": patients}
        table = pd.DataFrame({**content, "label_MALIGNANT": LABELS, "prob_MALIGNANT": PROBABILITIES})
        found = evaluate_predictions(table, TASK.classes, TASK.type, levels=("image",), n_resamples=50, **bootstrap)
        return plots, draw_curves(tmp_path, table, TASK, found, "image")

    return draw


def test_the_operating_point_and_the_share_of_positives_are_those_of_the_table(drawn):
    plots, _ = drawn(min_patients=2)
    *_, legends, marks = plots["roc"]
    assert marks == {"MALIGNANT": pytest.approx((2 / 6, 3 / 4))}
    assert legends["MALIGNANT"].startswith("AUC 0.")
    *_, shares, legends, marks = plots["recall"]
    assert marks == {"MALIGNANT": pytest.approx((3 / 4, 3 / 5))}
    assert shares == {"MALIGNANT": pytest.approx(0.4)}
    assert legends["MALIGNANT"].startswith("AP 0.")


@pytest.mark.parametrize(("least", "has_band"), [(2, True), (30, False)])
def test_too_few_patients_for_an_interval_are_too_few_for_a_band(drawn, least, has_band):
    plots, pictures = drawn(min_patients=least)
    for name in ("roc", "recall"):
        curve = plots[name][0]["MALIGNANT"]
        assert np.isfinite(curve["low"]).any() == has_band
    assert ("without a band" not in pictures[0].caption) == has_band
