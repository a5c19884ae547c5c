import json

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from miram.data.datalist import load_split, read_datalist
from miram.data.tasks import Task, find_task, targets
from miram.errors import InputError
from miram.inference.calibrated import (
    Calibration,
    calibration_of_model,
    load_calibration,
    prior_correction,
    save_calibration,
)
from miram.loading.sampling import sample_weights
from miram.losses.classification import make_classification_loss
from miram.metrics.calibration import expected_calibration_error, fit_scaling
from miram.metrics.classification import choose_threshold

from ..classifier_case import make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), {"training": 1, "validation": 12, "test": 1})


def case(folder, name, seed=0):
    """The task, its validation items and noisy logits."""
    task, items = find_task(read_datalist(folder), name), load_split(folder, "validation")
    labels = targets(items, task)
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return task, items, 3 * (np.nan_to_num(labels) - 0.5) + 3 * noise


def test_scaling_and_operating_point_are_those_of_the_metrics(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder)
    labels = targets(items, task)
    scale, bias = fit_scaling(logits, labels, "sigmoid")
    assert (calibration.scale, calibration.bias) == (pytest.approx(scale), pytest.approx(bias))
    values = expit(scale * logits + bias)
    np.testing.assert_allclose(calibration.probabilities(torch.from_numpy(logits), task), values, rtol=1e-5)
    expected = choose_threshold(labels[:, 0], values[:, 0])
    assert calibration.thresholds["image"] == {"MALIGNANT": pytest.approx(expected, rel=1e-5)}
    assert calibration.thresholds.keys() == {"image", "lesion", "patient"}
    assert calibration.describe().endswith("(fitted on 23 validation images)")
    assert calibration.threshold_note.endswith("chosen on 23 validation images of 12 patients")


def test_another_rule_and_no_scaling(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder, scaling=False, rule="sensitivity", target=1.0)
    assert (calibration.scale, calibration.bias) == ([], [])
    labels = targets(items, task)[:, 0]
    assert calibration.thresholds["image"]["MALIGNANT"] == pytest.approx(expit(logits[labels == 1].min()))


def test_each_class_of_a_multilabel_task_has_a_scale_and_bias_of_its_own(folder):
    task, items, logits = case(folder, "mass_margins")
    shifted = logits * [2.0, 1.0, 1.0] + [4.0, 0.0, 0.0]
    plain, other = Calibration(), Calibration()
    plain.fit(items, logits, task, folder)
    other.fit(items, shifted, task, folder)
    assert other.scale[1:] == pytest.approx(plain.scale[1:], rel=1e-3)
    assert other.bias[1:] == pytest.approx(plain.bias[1:], abs=1e-3)
    assert other.bias[0] < plain.bias[0] - 0.4


def test_a_multiclass_task_has_no_operating_point(folder):
    task, items, logits = case(folder, "density")
    calibration = Calibration()
    calibration.fit(items, logits, task, folder)
    assert calibration.thresholds == {}
    np.testing.assert_allclose(calibration.probabilities(torch.from_numpy(logits), task).sum(dim=1), 1, rtol=1e-6)
    assert len(set(calibration.scale)) == 1
    assert len(calibration.bias) == 4


def test_labels_that_are_all_unknown_leave_one_half(folder):
    task, items, logits = case(folder, "pathology")
    calibration = Calibration([0.5], [-1.0], "from the model file")
    calibration.fit([item | {"pathology": None} for item in items], logits, task, folder)
    assert calibration.thresholds_at("image", ["MALIGNANT"]) == {"MALIGNANT": 0.5}
    assert (calibration.scale, calibration.bias) == ([0.5], [-1.0])
    assert calibration.note == "from the model file; no validation label is known, so nothing could be fitted"
    assert calibration.threshold_note.startswith("0.5: no validation label is known")


def test_a_calibration_is_found_again_for_its_own_model_only(tmp_path):
    path = tmp_path / "calibration.json"
    saved = Calibration([2.0], [0.5], "fitted", {"image": {"MALIGNANT": 0.25}}, "chosen", "abc")
    save_calibration(path, saved)
    assert load_calibration(path, "abc") == saved
    assert load_calibration(path, "other") is None
    assert load_calibration(tmp_path / "none.json", "abc") is None
    for damaged in ("{", json.dumps({"unknown": 1}), json.dumps({"scale": [1, 2], "bias": [0]}), '{"temperature": -1}'):
        path.write_text(damaged)
        with pytest.raises(InputError, match="not a calibration"):
            load_calibration(path, "abc")


def test_an_older_file_with_a_temperature_is_read(tmp_path):
    old = {
        "temperature": 2.0,
        "temperature_note": "fitted",
        "thresholds": {},
        "threshold_note": "",
        "model_sha256": "abc",
    }
    (tmp_path / "calibration.json").write_text(json.dumps(old))
    found = load_calibration(tmp_path / "calibration.json", "abc")
    assert (found.scale, found.bias, found.note) == ([0.5], [0.0], "fitted")
    logits = torch.tensor([[2.0, -4.0]])
    multilabel = Task("margins", "multilabel", ("a", "b"))
    torch.testing.assert_close(found.probabilities(logits, multilabel), (logits / 2).sigmoid())


def test_what_a_model_file_holds_of_a_calibration():
    assert calibration_of_model({"temperature": None, "thresholds": None}, "abc") == Calibration(model_sha256="abc")
    found = calibration_of_model({"temperature": 2, "thresholds": {"image": {"a": 0.1}}}, "abc")
    assert (found.scale, found.bias, found.thresholds) == ([0.5], [0.0], {"image": {"a": 0.1}})
    found = calibration_of_model({"scale": [2.0, 1.0], "bias": [0.0, -1.0]}, "abc")
    assert (found.scale, found.bias, found.note) == ([2.0, 1.0], [0.0, -1.0], "from the model file")


@pytest.mark.parametrize("balance", ["weights", "sampling", "none"])
def test_the_prior_that_balancing_showed_is_corrected_for(balance):
    """Scores that tell nothing: a balanced network calls all classes alike, and is corrected to their shares."""
    binary = np.repeat([1.0, 0.0], [10, 90])[:, None]
    shown = {"none": np.log(10 / 90)}.get(balance, 0.0)
    assert expit(shown + prior_correction(binary, False, balance)) == pytest.approx(0.1)
    three = np.eye(3)[np.repeat([0, 1, 2], [10, 30, 60])]
    shown = {"none": np.log([0.1, 0.3, 0.6])}.get(balance, np.zeros(3))
    assert softmax(shown + prior_correction(three, True, balance)) == pytest.approx([0.1, 0.3, 0.6])


def test_a_class_that_does_not_occur_and_unknown_labels_change_nothing():
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [np.nan, np.nan]])
    found = prior_correction(labels, False, "weights")
    np.testing.assert_allclose(found, [np.log(0.5), 0])


def trained_logits(values, labels, exclusive, balance):
    """Logits of a linear network that was trained with a balance of the classes."""
    images, targets_ = torch.from_numpy(values), torch.from_numpy(labels)
    if balance == "sampling":
        weights = sample_weights(labels)
        drawn = np.random.default_rng(0).choice(len(labels), 4 * len(labels), p=weights / weights.sum())
        images, targets_ = images[drawn], targets_[drawn]
    loss = make_classification_loss("multiclass" if exclusive else "binary", labels, balance)
    network = torch.nn.Linear(values.shape[1], labels.shape[1]).double()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(network(images), targets_)["loss"]
        value.backward()
        return value

    optimizer.step(closure)
    return network


@pytest.mark.parametrize("balance", ["weights", "sampling"])
@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.7, 0.3], [0.05, 0.25, 0.7]])
def test_a_balanced_network_is_calibrated_by_its_known_prior_alone(shares, balance):
    rng = np.random.default_rng(0)
    exclusive = len(shares) > 2

    def cases(count):
        one_hot = np.eye(len(shares))[rng.choice(len(shares), size=count, p=shares)]
        return one_hot + 0.8 * rng.normal(size=one_hot.shape), one_hot if exclusive else one_hot[:, 1:]

    values, labels = cases(4000)
    network = trained_logits(values, labels, exclusive, balance)
    values, truth = cases(20_000)
    logits = network(torch.from_numpy(values)).detach().numpy()
    errors = []
    for added in (0, prior_correction(labels, exclusive, balance)):
        found = softmax(logits + added, axis=1) if exclusive else expit(logits + added)
        errors.append(max(expected_calibration_error(*pair)[0] for pair in zip(found.T, truth.T, strict=True)))
    assert errors[0] > 0.07
    assert errors[1] < 0.03
