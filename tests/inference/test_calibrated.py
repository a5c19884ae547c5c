import json

import numpy as np
import pytest
from scipy.special import expit

from miram.data.datalist import load_split, read_datalist
from miram.data.tasks import find_task, targets
from miram.errors import InputError
from miram.inference.calibrated import Calibration, calibration_of_model, load_calibration, save_calibration
from miram.metrics.calibration import fit_temperature
from miram.metrics.classification import choose_threshold

from ..classifier_case import make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), {"training": 1, "validation": 12, "test": 1})


def case(folder, name, seed=0):
    """The task, its validation items and noisy logits."""
    task, items = find_task(read_datalist(folder / "datalist.json"), name), load_split(folder, "validation")
    labels = targets(items, task)
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return task, items, 3 * (np.nan_to_num(labels) - 0.5) + 3 * noise


def test_temperature_and_operating_point_are_those_of_the_metrics(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder)
    labels = targets(items, task)
    temperature = fit_temperature(logits, labels, "sigmoid")
    assert calibration.temperature == pytest.approx(temperature)
    values = expit(logits / temperature)
    np.testing.assert_allclose(calibration.probabilities(logits, task), values)
    expected = choose_threshold(labels[:, 0], values[:, 0])
    assert calibration.thresholds["image"] == {"MALIGNANT": pytest.approx(expected)}
    assert calibration.thresholds.keys() == {"image", "lesion", "patient"}
    assert calibration.temperature_note == "fitted by maximum likelihood on 23 validation images"
    assert calibration.threshold_note.endswith("chosen on 23 validation images of 12 patients")


def test_another_rule_and_no_temperature(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder, temperature=False, rule="sensitivity", target=1.0)
    assert calibration.temperature is None
    labels = targets(items, task)[:, 0]
    assert calibration.thresholds["image"]["MALIGNANT"] == pytest.approx(expit(logits[labels == 1].min()))


def test_a_temperature_that_cannot_be_fitted_leaves_the_one_in_place_and_says_why(folder):
    task, items, _ = case(folder, "pathology")
    right = 10 * (np.nan_to_num(targets(items, task)) - 0.5)
    calibration = Calibration(temperature=1.5)
    calibration.fit(items, right, task, folder)
    assert calibration.temperature == 1.5
    assert "cannot be fitted" in calibration.temperature_note
    assert "1.5, stays" in calibration.temperature_note


def test_a_multiclass_task_has_no_operating_point(folder):
    task, items, logits = case(folder, "density")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder)
    assert calibration.thresholds == {}
    np.testing.assert_allclose(calibration.probabilities(logits, task).sum(axis=1), 1)


def test_labels_that_are_all_unknown_leave_one_half(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration()
    calibration.fit([item | {"pathology": None} for item in items], logits, task, folder)
    assert calibration.thresholds_at("image", ["MALIGNANT"]) == {"MALIGNANT": 0.5}
    assert calibration.threshold_note.startswith("0.5: no validation label is known")


def test_a_calibration_is_found_again_for_its_own_model_only(tmp_path):
    path = tmp_path / "calibration.json"
    saved = Calibration(2.0, "fitted", {"image": {"MALIGNANT": 0.25}}, "chosen", "abc")
    save_calibration(path, saved)
    assert load_calibration(path, "abc") == saved
    assert load_calibration(path, "other") is None
    assert load_calibration(tmp_path / "none.json", "abc") is None
    for damaged in ("{", json.dumps({"unknown": 1})):
        path.write_text(damaged)
        with pytest.raises(InputError, match="no calibration"):
            load_calibration(path, "abc")


def test_what_a_model_file_holds_of_a_calibration():
    assert calibration_of_model({"temperature": None, "thresholds": None}, "abc") == Calibration(model_sha256="abc")
    found = calibration_of_model({"temperature": 2, "thresholds": {"image": {"a": 0.1}}}, "abc")
    assert (found.temperature, found.thresholds) == (2.0, {"image": {"a": 0.1}})
