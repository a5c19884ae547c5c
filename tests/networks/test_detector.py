import sys

import pytest
import torch

from miram.errors import InputError
from miram.networks.detector import LesionDetector, TokenPyramid

PITCH, SIDE = 8, 16  # pixels per token, tokens along a side of a map


def make_detector(**arguments):
    torch.manual_seed(0)
    return LesionDetector(5, PITCH, [12, 20, 40, 60], **{"hidden_size": 16, "dropout_rate": 0.0, **arguments})


def a_map(*boxes):
    """A map whose first channel is 1 in boxes x0, y0, x1, y1 in pixels, and whose last one says that all is breast."""
    values = torch.zeros(5, SIDE, SIDE)
    values[-1] = 1
    for x0, y0, x1, y1 in boxes:
        values[0, y0 // PITCH : y1 // PITCH, x0 // PITCH : x1 // PITCH] = 1
    return values


def test_a_level_has_the_maps_places_and_the_next_one_half_of_them():
    levels = TokenPyramid(5, 8, 0.0)(torch.rand(2, 5, 6, 4))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 6, 4), (2, 8, 3, 2)]


def test_anchors_lie_in_the_middle_of_their_tokens_in_pixels_of_the_view():
    output = make_detector().eval()(torch.rand(1, 5, 4, 4))
    assert output.size == [4 * PITCH, 4 * PITCH]
    assert output.places == [16, 4]
    anchors = output.anchors[0]
    assert len(anchors) == 2 * (16 + 4) == output.heads["classification"].shape[1]
    sides = (anchors[:, 2:] - anchors[:, :2]).max(dim=1).values
    assert set(sides.tolist()) == {12, 20, 40, 60}
    fine, coarse = anchors[sides == 12], anchors[sides == 40]
    assert fine[1, 1] - fine[0, 1] == PITCH
    assert coarse[1, 1] - coarse[0, 1] == 2 * PITCH


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchor_sizes": []}, "an even number of sizes"),
        ({"anchor_sizes": [10, 20, 30]}, "an even number of sizes"),
        ({"anchor_sizes": [0.3, 10]}, "an even number of sizes"),
        ({"num_convs": 0}, "num_convs is 0"),
        ({"num_convs": 5}, "give 1 to 4"),
        ({"hidden_size": 20}, "a multiple of 8"),
        ({"nms_overlap": 1}, "0 to below 1"),
        ({"max_candidates": 0}, "1 or more"),
    ],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        LesionDetector(**{"in_channels": 5, "pixels_per_token": PITCH, "anchor_sizes": [12, 20], **arguments})


def test_small_anchors_are_of_the_fine_level_in_any_order():
    assert LesionDetector(5, PITCH, [60, 12, 20.4, 40]).network_def["anchor_sizes"] == [12, 20, 40, 60]


def test_it_learns_to_find_boxes_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    detector = make_detector().train()
    small, large = (16, 80, 32, 96), (64, 16, 112, 64)
    maps = torch.stack([a_map(small), a_map(large), a_map(small, large), a_map()])
    targets = [
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) for boxes in ([small], [large], [small, large], [])
    ]
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-2)
    for _ in range(60):
        losses = detector.loss(detector(maps), targets)
        assert losses["loss"].item() == pytest.approx((losses["loss_class"] + losses["loss_box"]).item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    detector.eval()
    found = detector.candidates(detector(maps))
    for (boxes, scores), expected in zip(found, targets, strict=True):
        assert (scores.diff() <= 0).all()
        assert (scores > 0.5).sum() == len(expected)
        for box in expected:
            assert min((boxes[scores > 0.5] - box).abs().max(dim=1).values) < PITCH / 2


def test_labels_are_on_the_device_of_their_boxes(monkeypatch):
    """A GPU refuses to look up labels on the CPU; torch's meta device stands for one here."""
    detector, seen = make_detector(), []
    monkeypatch.setattr(detector, "compute_loss", lambda heads, boxes, *rest: seen.append(boxes) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detector.loss(detector(torch.rand(1, 5, 4, 4)), [torch.zeros(1, 4, device="meta")])
    assert seen[0][0]["labels"].device.type == "meta"


def test_the_definition_makes_the_same_network():
    detector = make_detector(num_convs=1).eval()
    again = LesionDetector(**detector.network_def).eval()
    again.load_state_dict(detector.state_dict())
    maps = torch.rand(1, 5, 4, 4)
    assert torch.equal(again(maps).heads["classification"], detector(maps).heads["classification"])
