import numpy as np
import pytest
import torch

from miram.data.examinations import Breast
from miram.engines.exam import ExamTraining, exam_attention, score_exams, train_exam
from miram.errors import InputError
from miram.metrics.classification import roc_auc

SETTINGS = ExamTraining(max_epochs=12, learning_rate=1e-2, hidden_size=16, attention_size=8)


def breasts_and_features(count, seed=0):
    """One tile of each positive breast is marked in its first value."""
    rng = torch.Generator().manual_seed(seed)
    breasts, features = [], {}
    for number in range(count):
        label = float(number % 2)
        names = [f"{seed}_{number}_{view}" for view in range(1 + number % 3)]
        for name in names:
            features[name] = torch.randn(6, 4, generator=rng).half()
            features[name][2, 0] += 6 * label
        views = tuple({"image": name} for name in names)
        breasts.append(Breast(str(number), str(number), views, np.full(len(names), label)))
    return breasts, features


def test_it_finds_the_tile_that_tells_positive_breasts():
    seen, features = breasts_and_features(40)
    held_out, others = breasts_and_features(20, seed=1)
    network, history = train_exam(seen, held_out, features | others, SETTINGS)
    scores = score_exams(network, held_out, others)
    assert roc_auc(np.array([breast.label for breast in held_out]), scores.breasts) > 0.95
    assert [len(views) for views in scores.views] == [len(breast.views) for breast in held_out]
    assert len(history) == 12
    attention = exam_attention(network, others["1_1_0"])
    assert attention.argmax() == 2


def test_the_same_seed_gives_the_same_weights():
    seen, features = breasts_and_features(12)
    one, other = (train_exam(seen, seen[:4], features, SETTINGS)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_epoch_of_lowest_validation_loss_is_kept():
    seen, features = breasts_and_features(12)
    held_out, others = breasts_and_features(6, seed=1)
    network, history = train_exam(seen, held_out, features | others, SETTINGS)
    logits = torch.from_numpy(score_exams(network, held_out, others).breasts)
    labels = torch.tensor([breast.label for breast in held_out])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert float(loss) == pytest.approx(min(row["val_loss"] for row in history), rel=1e-4)


def test_one_class_cannot_be_learned():
    seen, features = breasts_and_features(4)
    with pytest.raises(InputError, match="have one class"):
        train_exam(seen[::2], [], features, SETTINGS)
