import numpy as np
import pytest
import torch

from miram.engines.detection import FrocScore, PrepareDetectionBatch, find_candidates
from miram.errors import InputError
from miram.networks.detector import LesionDetector

BOX, AWAY = [10.0, 10, 30, 30], [60.0, 60, 80, 80]


def test_rows_without_a_box_are_taken_away():
    boxes = torch.tensor([[[1.0, 2, 3, 4], [np.nan] * 4], [[np.nan] * 4, [np.nan] * 4]])
    maps, targets, _, _ = PrepareDetectionBatch()({"map": torch.rand(2, 3, 4, 4), "boxes": boxes}, "cpu")
    assert maps.shape == (2, 3, 4, 4)
    assert [target.tolist() for target in targets] == [[[1, 2, 3, 4]], []]


def test_candidates_outside_the_breast_are_left_out():
    torch.manual_seed(0)
    network = LesionDetector(3, 8, [8, 16], hidden_size=8, nms_overlap=0.3).eval()
    torch.nn.init.zeros_(network.network.classification_head.cls_logits.bias)  # every anchor is a candidate
    maps = torch.rand(1, 3, 8, 8)
    maps[:, -1] = 0
    maps[:, -1, :4] = 1  # the breast is above row 32
    boxes, scores = find_candidates(network, maps)[0]
    assert len(boxes) == len(scores) > 0
    assert ((boxes[:, 1] + boxes[:, 3]) / 2 < 32).all()
    maps[:, -1] = 0
    assert len(find_candidates(network, maps)[0][0]) == 0


def score_of(*candidates):
    """The score for two views of a lesion of one patient, and a view of another one."""
    items = [
        {"patient": "p", "boxes": np.array([BOX, [np.nan] * 4]), "lesions": ("1",)},
        {"patient": "p", "boxes": np.array([BOX, [np.nan] * 4]), "lesions": ("1",)},
        {"patient": "q", "boxes": np.array([BOX, AWAY]), "lesions": ("1", "2")},
    ]
    score = FrocScore(items)
    for index, boxes in enumerate(candidates):
        found = np.array([box for box, _ in boxes], float).reshape(-1, 4), np.array([value for _, value in boxes])
        score.update(([found], torch.tensor([index])))
    return score


def test_the_score_counts_a_lesion_once_in_all_of_its_views():
    assert score_of([(BOX, 0.9)], [], [(BOX, 0.8)]).compute() == pytest.approx(2 / 3)
    assert score_of([(BOX, 0.9)], [(BOX, 0.9)], [(BOX, 0.8), (AWAY, 0.7)]).compute() == 1
    assert score_of([], [], []).compute() == 0
    # at 0.25 false alarms per view none is allowed, and the two lesions below it are missed; at 0.5 it is one of three
    worse = score_of([(AWAY, 0.95), (BOX, 0.9)], [], [(BOX, 0.8), (AWAY, 0.7)])
    assert worse.compute() == pytest.approx((0 + 1 + 1 + 1 + 1) / 5)
    assert worse.thresholds()["0.25"] == 0.95
    assert worse.thresholds()["4"] == 0


def test_views_without_a_lesion_have_no_score():
    with pytest.raises(InputError, match="no validation view has a box"):
        FrocScore([{"patient": "p", "boxes": np.full((2, 4), np.nan), "lesions": ()}])
