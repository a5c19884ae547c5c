import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from miram.errors import InputError
from miram.losses.classification import ClassificationLoss, balanced_weights, make_classification_loss

NAN = float("nan")


def one_hot(*classes, count=3):
    return F.one_hot(torch.tensor(classes), count).float()


def test_binary_and_multilabel_are_binary_cross_entropy():
    logits, target = torch.randn(6, 2), torch.randint(0, 2, (6, 2)).float()
    expected = F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(ClassificationLoss("multilabel")(logits, target)["loss"], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_multiclass_is_cross_entropy(smoothing):
    logits = torch.randn(5, 3)
    expected = F.cross_entropy(logits, torch.tensor([0, 2, 1, 1, 0]), label_smoothing=smoothing)
    loss = ClassificationLoss("multiclass", label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, one_hot(0, 2, 1, 1, 0))["loss"], expected)


def test_smoothed_binary_targets():
    logits = torch.randn(4, 1)
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.9], [0.1], [0.9], [0.1]]))
    target = torch.tensor([[1.0], [0], [1], [0]])
    torch.testing.assert_close(ClassificationLoss("binary", label_smoothing=0.2)(logits, target)["loss"], expected)


def test_unknown_targets_count_nothing_and_give_no_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [NAN, 1.0], [NAN, NAN]])
    loss = ClassificationLoss("multilabel")
    value = loss(logits, target)["loss"]
    known = ~target.isnan()
    expected = F.binary_cross_entropy_with_logits(logits[known], target[known])
    torch.testing.assert_close(value, expected)
    value.backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).all()
    assert loss.per_image(logits, target)[2].item() == 0


def test_an_unknown_class_counts_nothing():
    logits, target = torch.randn(3, 3), one_hot(0, 1, 2)
    target[1] = NAN
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]))
    loss = ClassificationLoss("multiclass")
    torch.testing.assert_close(loss(logits, target)["loss"], expected)
    torch.testing.assert_close(loss.per_image(logits, target).sum() / 2, expected)


def test_a_batch_without_a_known_label_costs_nothing():
    assert ClassificationLoss("binary")(torch.randn(2, 1), torch.full((2, 1), NAN))["loss"].item() == 0


def test_mixed_targets_cost_the_mixture():
    logits = torch.randn(1, 3)
    loss = ClassificationLoss("multiclass")
    mixed = loss(logits, 0.3 * one_hot(0) + 0.7 * one_hot(2))["loss"]
    torch.testing.assert_close(mixed, 0.3 * loss(logits, one_hot(0))["loss"] + 0.7 * loss(logits, one_hot(2))["loss"])


def test_the_mean_over_images_is_the_loss_of_the_batch():
    logits, target = torch.randn(4, 2), torch.randint(0, 2, (4, 2)).float()
    loss = ClassificationLoss("multilabel", [[1.0, 2.0], [3.0, 4.0]])
    assert loss.per_image(logits, target).shape == (4, 1)
    torch.testing.assert_close(loss.per_image(logits, target).mean(), loss(logits, target)["loss"])


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.array([0] * 6 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(np.eye(3)[labels], exclusive=True)[1] == pytest.approx(expected)
    binary = balanced_weights((labels[:, None] == 2).astype(float), exclusive=False)
    assert binary[:, 0] == pytest.approx(compute_class_weight("balanced", classes=np.arange(2), y=labels == 2))


def test_what_does_not_occur_weighs_nothing_and_unknown_labels_do_not_count():
    weights = balanced_weights(np.array([[1.0, 0.0], [1.0, 0.0], [NAN, NAN], [0.0, 0.0]]), exclusive=False)
    np.testing.assert_allclose(weights, [[1.5, 1.0], [0.75, 0.0]])


def test_weights_multiply_their_class():
    logits = torch.zeros(2, 1)
    loss = ClassificationLoss("binary", [[0.5], [4.0]])
    per_image = loss.per_image(logits, torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(per_image[:, 0] / np.log(2), torch.tensor([0.5, 4.0]))


@pytest.mark.parametrize(("balance", "weighted"), [("weights", True), ("sampling", False), ("none", False)])
def test_balance_by_weights_only_where_asked(balance, weighted):
    loss = make_classification_loss("binary", np.array([[1.0], [0.0], [0.0], [0.0]]), balance)
    assert loss.weights[:, 0].tolist() == pytest.approx([2 / 3, 2] if weighted else [1, 1])


def test_bad_values_are_refused():
    with pytest.raises(InputError, match="balance 'weight' is not one of"):
        make_classification_loss("binary", np.zeros((2, 1)), "weight")
    with pytest.raises(ValueError, match="label_smoothing"):
        ClassificationLoss("binary", label_smoothing=1.0)
