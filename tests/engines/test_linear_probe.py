import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from miram.data.tasks import Task
from miram.engines import PrepareClassificationBatch
from miram.engines.linear_probe import Features, LinearProbe, fit_head
from miram.errors import InputError
from miram.losses.classification import ClassificationLoss
from miram.weights.classifier import classifier_content, load_classifier

from ..classifier_case import PREPROCESSING, as_input, make_classifier, make_crop

BINARY = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
STRENGTHS = [1e-3, 1e-1, 10.0]


def batches(count, seed, share=0.5):
    """Two batches of crops, that share of them malignant, and one wrong label in eight."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 10 < 10 * share
    crops = [make_crop(bool(malignant), tuple(rng.integers(4, size=2)), rng) for malignant in truth]
    label = torch.from_numpy(truth != (np.arange(count) % 8 == 3)).float()[:, None]
    image = as_input(crops)
    half = count // 2
    return [{"image": image[:half], "label": label[:half]}, {"image": image[half:], "label": label[half:]}]


def fit(network, output, training, validation, **overrides):
    def content(network):
        task = {"name": BINARY.name, "type": BINARY.type, "classes": BINARY.classes}
        return classifier_content(network, task, PREPROCESSING, {"seed": 0})

    arguments = {
        "task": BINARY,
        "training": training,
        "validation": validation,
        "prepare_batch": PrepareClassificationBatch((16, 16)),
        "loss": ClassificationLoss("binary"),
        "balanced": False,
        "strengths": STRENGTHS,
        "key_metric": "val_loss",
    }
    LinearProbe(network, **{**arguments, **overrides}).save(content, output)
    return load_classifier(output / "model.pt")


@pytest.mark.parametrize("balanced", [False, True])
def test_the_head_is_scikit_learns_regression_on_standardised_features(balanced, tmp_path, caplog):
    network, training, validation = make_classifier(), batches(40, 0, 0.3), batches(20, 1)
    with caplog.at_level(logging.INFO):
        loaded, rest = fit(network, tmp_path, training, validation, balanced=balanced)
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["C"].tolist() == STRENGTHS
    assert table["chosen"].tolist() == (table["val_loss"] == table["val_loss"].min()).astype(int).tolist()
    strength = rest["provenance"]["C"]
    assert f"C {strength:.3g}" in caplog.text
    regression = LogisticRegression(C=strength, class_weight="balanced" if balanced else None, max_iter=2000)
    with torch.no_grad():
        features, other = (
            network.features(torch.cat([batch["image"] for batch in part])).double().numpy()
            for part in (training, validation)
        )
        labels = torch.cat([batch["label"] for batch in training])[:, 0].numpy()
        expected = make_pipeline(StandardScaler(), regression).fit(features, labels).decision_function(other)
        logits = loaded(torch.cat([batch["image"] for batch in validation]))[:, 0]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert rest["network_def"]["feature_norm"] is False  # a stock ViT without further ado


def test_it_can_learn_from_mirror_images_and_quarter_turns_too(tmp_path):
    network, training, validation = make_classifier(), batches(40, 0), batches(20, 1)
    loaded, _ = fit(network, tmp_path, training, validation, mirrored=True, strengths=[0.1])
    image = torch.cat([batch["image"] for batch in training])
    versions = torch.cat(
        [turned for one in (image, image.flip(3)) for turned in (one.rot90(k, (2, 3)) for k in range(4))]
    )
    labels = torch.cat([batch["label"] for batch in training])[:, 0].repeat(8).numpy()
    with torch.no_grad():
        features = network.features(versions).double().numpy()
        logits = loaded(image)[:, 0]
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(features, labels)
    np.testing.assert_allclose(logits, expected.decision_function(features[:40]), atol=1e-4)


def test_the_metric_that_chooses_is_told_by_the_config(tmp_path):
    fit(make_classifier(), tmp_path, batches(40, 0), batches(20, 1), key_metric="val_auc")
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["val_auc"][table["chosen"] == 1].item() == table["val_auc"].max()


@pytest.mark.parametrize("overrides", [{"key_metric": "val_acc"}, {"strengths": []}, {"strengths": [0.0]}])
def test_bad_values_are_refused_before_anything_is_computed(overrides, tmp_path):
    with pytest.raises(InputError, match="a linear probe needs one of val_auc, val_ap, val_loss, and positive"):
        fit(make_classifier(), tmp_path, None, None, **overrides)


def test_a_multiclass_head_is_multinomial_and_knows_a_class_that_does_not_occur():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(60, 5)), rng.integers(0, 3, size=60)
    values[:, 0] += labels
    task = Task("grade", "multiclass", ("0", "1", "2", "3"))
    weight, bias = fit_head(Features(values, np.eye(4)[labels]), task, 1.0, balanced=False)
    expected = LogisticRegression(C=1.0).fit(values, labels)
    np.testing.assert_allclose(weight[:3], expected.coef_, atol=1e-3)
    assert bias[3] < bias[:3].min() - 3
    two = fit_head(Features(values[labels < 2], np.eye(4)[labels[labels < 2]]), task, 1.0, balanced=False)
    difference = LogisticRegression(C=1.0).fit(values[labels < 2], labels[labels < 2])
    np.testing.assert_allclose(two[0][1] - two[0][0], difference.coef_[0], atol=1e-3)


def test_each_class_of_a_multilabel_task_has_a_regression_of_its_own_labels():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3))
    labels = np.stack([values[:, 0] > 0, values[:, 1] > 0, np.zeros(40)], axis=1).astype(float)
    labels[::4, 1] = np.nan
    weight, bias = fit_head(Features(values, labels), Task("m", "multilabel", ("a", "b", "c")), 1.0, balanced=False)
    known = ~np.isnan(labels[:, 1])
    expected = LogisticRegression(C=1.0).fit(values[known], labels[known, 1])
    np.testing.assert_allclose(weight[1], expected.coef_[0], atol=1e-3)
    assert weight[2].tolist() == [0, 0, 0]
    assert bias[2] == pytest.approx(np.log(0.5 / 40.5))


def test_training_starts_from_a_probe_only_where_the_encoder_of_a_classifier_is_trained(tmp_path):
    network = make_classifier()
    arguments = (BINARY, batches(20, 0), batches(20, 1), PrepareClassificationBatch((16, 16)))
    probe = LinearProbe(network, *arguments, ClassificationLoss("binary"), False, STRENGTHS)
    before = network.classification_head.weight.clone()
    network.freeze_encoder()
    probe.start(tmp_path / "absent.pt", resume=True)
    assert torch.equal(network.classification_head.weight, before)
    network.frozen = False
    probe.start(tmp_path / "absent.pt", resume=True)
    assert not torch.equal(network.classification_head.weight, before)
    with pytest.raises(InputError, match="leave probe_first out"):
        dataclasses.replace(probe, network=torch.nn.Linear(1, 1)).start(tmp_path / "absent.pt", resume=True)
