import json
import logging
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from miram.errors import InputError
from miram.metrics import classification
from miram.metrics.evaluation import choose_thresholds, evaluate_predictions

from .tables import make_table


@pytest.mark.parametrize("task_type", ["binary", "multiclass", "multilabel"])
def test_every_metric_has_an_interval_around_its_value_at_every_level(task_type):
    table, names = make_table(task_type)
    report = evaluate_predictions(table, names, task_type, n_resamples=200)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report["levels"]) == ["image", "lesion", "patient"]
    for level in report["levels"].values():
        assert list(level["metrics"]["auc"]["per_class"]) == ([] if task_type == "binary" else names)
        for metric, entry in level["metrics"].items():
            for estimate in (entry["overall"], *entry["per_class"].values()):
                assert estimate["reason"] is None
                assert estimate["low"] < estimate["high"]
                if metric != "ece":
                    assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_binary_values_and_counts_are_those_of_the_table():
    table, names = make_table("binary")
    report = evaluate_predictions(table, names, "binary", n_resamples=50)["levels"]["image"]
    labels, probabilities = table["label_positive"].to_numpy(), table["prob_positive"].to_numpy()
    known = ~np.isnan(labels)
    assert report["metrics"]["auc"]["overall"]["value"] == pytest.approx(
        roc_auc_score(labels[known], probabilities[known])
    )
    assert report["counts"]["units"] == 120
    assert report["counts"]["classes"]["positive"] == {
        "positive": (labels == 1).sum(),
        "negative": (labels == 0).sum(),
        "unknown": np.isnan(labels).sum(),
    }
    called = probabilities >= 0.5
    expected = [[((labels == row) & (called == column)).sum() for column in (0, 1)] for row in (0, 1)]
    assert report["confusion"] == {"positive": expected}
    assert report["metrics"]["auc"]["overall"]["n_units"] == (~np.isnan(labels)).sum()


def test_intervals_are_seeded_and_do_not_depend_on_the_order_of_rows():
    table, names = make_table("binary", unknown=0.0)
    first, shuffled, other = (
        evaluate_predictions(rows, names, "binary", n_resamples=100, seed=seed, levels=["image"])["levels"]["image"][
            "metrics"
        ]["brier"]
        for rows, seed in ((table, 0), (table.sample(frac=1, random_state=0), 0), (table, 1))
    )
    for end in ("value", "low", "high"):
        assert shuffled["overall"][end] == pytest.approx(first["overall"][end], rel=1e-12)
    assert other["overall"]["value"] == first["overall"]["value"]
    assert other["overall"]["low"] != first["overall"]["low"]


def test_the_bca_interval_is_near_the_percentile_one_and_not_the_same():
    table, names = make_table("binary")
    ends = {}
    for method in ("percentile", "bca"):
        report = evaluate_predictions(table, names, "binary", n_resamples=1000, method=method, levels=["image"])
        found = report["levels"]["image"]["metrics"]["auc"]["overall"]
        ends[method] = np.array([found["low"], found["high"]])
    # The interval is about 0.15 wide; the correction shifts it by a small part of that.
    assert 0 < np.abs(ends["bca"] - ends["percentile"]).max() < 0.03


def test_a_small_set_is_reported_as_such():
    table, names = make_table("binary", patients=16)
    auc = evaluate_predictions(table, names, "binary", n_resamples=100)["levels"]["patient"]["metrics"]["auc"][
        "overall"
    ]
    assert auc["value"] is not None
    assert (auc["low"], auc["high"]) == (None, None)
    assert "10 are needed" in auc["reason"]


def test_a_class_without_positives_is_named_and_left_out_of_the_macro_mean():
    table, names = make_table("multilabel")
    table["label_c1"] = 0.0
    level = evaluate_predictions(table, names, "multilabel", n_resamples=100, levels=["lesion"])["levels"]["lesion"]
    auc = level["metrics"]["auc"]
    assert level["classes_not_scored"] == ["c1"]
    assert auc["per_class"]["c1"]["value"] is None
    assert auc["per_class"]["c1"]["reason"] == "no positive patients of class 'c1'"
    assert auc["overall"]["value"] == pytest.approx(
        (auc["per_class"]["c0"]["value"] + auc["per_class"]["c2"]["value"]) / 2
    )


def test_a_class_without_any_label_does_not_stop_the_others():
    table, names = make_table("multilabel")
    table["label_c2"] = np.nan
    level = evaluate_predictions(table, names, "multilabel", n_resamples=100, levels=["image"])["levels"]["image"]
    assert level["metrics"]["brier"]["per_class"]["c2"]["value"] is None
    assert level["metrics"]["brier"]["overall"]["low"] is not None
    assert level["counts"]["classes"]["c2"]["unknown"] == 120


def test_thresholds_come_from_validation_for_each_level_and_class():
    validation, names = make_table("multilabel", seed=5)
    test, _ = make_table("multilabel", seed=6)
    chosen = choose_thresholds(validation, names, "multilabel", "sensitivity", 0.8)
    labels, probabilities = validation["label_c0"].to_numpy(), validation["prob_c0"].to_numpy()
    assert chosen["image"]["c0"] == classification.choose_threshold(labels, probabilities, "sensitivity", 0.8)
    report = evaluate_predictions(test, names, "multilabel", n_resamples=50, threshold=chosen)
    assert {level: report["levels"][level]["thresholds"] for level in chosen} == chosen
    labels, probabilities = test["label_c0"].to_numpy(), test["prob_c0"].to_numpy()
    expected = recall_score(labels[known := ~np.isnan(labels)], probabilities[known] >= chosen["image"]["c0"])
    assert report["levels"]["image"]["metrics"]["sensitivity"]["per_class"]["c0"]["value"] == expected
    assert choose_thresholds(*make_table("multiclass"), "multiclass") == {}


def test_a_class_with_one_label_in_validation_gets_one_half_and_a_warning(caplog):
    validation, names = make_table("multilabel")
    validation["label_c1"] = 0.0
    with caplog.at_level(logging.WARNING):
        chosen = choose_thresholds(validation, names, "multilabel", levels=["image"])
    assert chosen["image"]["c1"] == 0.5
    assert "'c1'" in caplog.text


def test_thresholds_that_lack_a_level_are_an_error():
    table, names = make_table("binary")
    with pytest.raises(InputError, match="level 'lesion'"):
        evaluate_predictions(table, names, "binary", n_resamples=50, threshold={"image": {"positive": 0.5}})


def test_two_thousand_resamples_take_seconds():
    table, names = make_table("multilabel", n_classes=5, patients=350)
    start = time.perf_counter()
    report = evaluate_predictions(table, names, "multilabel")
    # 700 images, 5 classes, 3 levels: 0.4 s on one core; the bound leaves room for a busy machine.
    assert time.perf_counter() - start < 10
    assert report["levels"]["image"]["metrics"]["auc"]["overall"]["n_resamples"] == 2000


def test_the_calibration_error_of_calibrated_probabilities_is_near_zero_within_its_interval():
    """The percentile interval would lie above the value, which is itself too high (0.08 where the truth is 0)."""
    rng = np.random.default_rng(0)
    probabilities = rng.beta(2, 2, size=150)
    names = [f"i{index}" for index in range(150)]
    table = pd.DataFrame({"image": names, "patient": names, "label": (rng.random(150) < probabilities).astype(float)})
    level = evaluate_predictions(
        table.assign(prob_m=probabilities), ["m"], "binary", n_resamples=500, levels=["image"]
    )["levels"]
    error = level["image"]["metrics"]["ece"]["overall"]
    assert error["low"] < 0.03
    assert error["value"] - error["low"] > error["high"] - error["value"]
