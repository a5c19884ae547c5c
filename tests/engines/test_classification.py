from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from miram.data.tasks import Task
from miram.engines.classification import (
    ClassificationStep,
    MacroScore,
    PrepareClassificationBatch,
    classification_metrics,
    probabilities,
)
from miram.errors import InputError
from miram.losses.classification import ClassificationLoss
from miram.losses.reconstruction import downsample
from miram.metrics.classification import roc_auc

CPU = torch.device("cpu")
TASKS = {kind: Task("task", kind, ("a", "b", "c")) for kind in ("multiclass", "multilabel")}
TASKS["binary"] = Task("task", "binary", ("a", "b"))


def test_probabilities_of_each_type():
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert torch.equal(probabilities(logits, TASKS["multiclass"]), logits.softmax(1))
    assert torch.equal(probabilities(logits, TASKS["multilabel"]), logits.sigmoid())
    assert probabilities(logits.bfloat16(), TASKS["binary"]).dtype == torch.float32


def test_crops_are_reduced_on_the_device_as_in_pretraining():
    crop = torch.randn(2, 1, 64, 64)
    prepare = PrepareClassificationBatch((32, 32))
    image, label, args, kwargs = prepare({"image": crop, "label": torch.ones(2, 3, dtype=torch.float64)}, CPU)
    assert torch.equal(image, downsample(crop, (32, 32)))
    assert label.dtype == torch.float32
    assert (args, kwargs) == ((), {})
    assert prepare({"image": crop}, CPU)[1] is None


def test_validation_gives_probabilities_labels_and_the_loss_of_each_image():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Dropout(0.9)).train()
    loss = ClassificationLoss("binary")
    engine = SimpleNamespace(
        prepare_batch=PrepareClassificationBatch((4, 4)),
        state=SimpleNamespace(device=CPU),
        non_blocking=False,
        network=network,
        inferer=lambda image, net: net(image),
        fire_event=lambda event: None,
    )
    batch = {"image": torch.randn(3, 1, 8, 8), "label": torch.tensor([[0.0], [1.0], [1.0]])}
    output = ClassificationStep(TASKS["binary"], loss)(engine, batch)
    logits = network.eval()(downsample(batch["image"], (4, 4)))
    assert torch.equal(output["pred"], logits.sigmoid())
    assert torch.equal(output["per_image"], loss.per_image(logits, batch["label"]))
    assert torch.equal(output["label"], batch["label"])
    assert not output["pred"].requires_grad


def run(metrics, batches):
    engine = Engine(lambda _, batch: batch)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    return engine.run(batches).metrics


def test_metrics_are_means_over_classes_of_all_images_whatever_the_batches():
    rng = np.random.default_rng(0)
    pred, label = rng.random((10, 3), dtype=np.float32), rng.integers(0, 2, (10, 3)).astype(np.float32)
    per_image = rng.random((10, 1), dtype=np.float32)
    parts = {"pred": pred, "label": label, "per_image": per_image}
    batches = [{name: torch.tensor(part[rows]) for name, part in parts.items()} for rows in (slice(0, 7), slice(7, 10))]
    metrics = run(classification_metrics(CPU), batches)
    assert metrics["val_auc"] == pytest.approx(roc_auc_score(label, pred, average="macro"))
    assert metrics["val_ap"] == pytest.approx(average_precision_score(label, pred, average="macro"))
    assert metrics["val_loss"] == pytest.approx(per_image.mean())


def test_classes_that_the_images_lack_are_left_out():
    pred = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    label = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert run({"auc": MacroScore(roc_auc)}, [{"pred": pred, "label": label}])["auc"] == 1.0


def test_without_images_there_is_no_score():
    metric = MacroScore(roc_auc)
    metric.reset()
    with pytest.raises(NotComputableError, match="no validation images"):
        metric.compute()


def test_each_image_of_all_processes_counts_once(monkeypatch):
    """Two processes whose shares differ in size; the second has no batch in the third process's place."""
    shares = [[np.array([[0.9], [0.1]]), np.array([[1.0], [0.0]])], [np.array([[0.2]]), np.array([[1.0]])], []]
    monkeypatch.setattr("miram.engines.classification.gather_objects", lambda parts: shares)
    metric = MacroScore(roc_auc)
    metric.reset()
    assert metric.compute() == roc_auc(np.array([1.0, 0, 1]), np.array([0.9, 0.1, 0.2]))


def test_the_key_metric_comes_first_and_an_unknown_one_is_refused():
    assert list(classification_metrics(torch.device("cpu"), "val_ap")) == ["val_ap", "val_auc", "val_loss"]
    with pytest.raises(InputError, match="key_metric is 'auc'; give one of val_auc, val_ap, val_loss"):
        classification_metrics(torch.device("cpu"), "auc")
