import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from monai.metrics.froc import compute_fp_tp_probs, compute_froc_curve_data, compute_froc_score

from miram.metrics.bootstrap import Bootstrap
from miram.metrics.detection import ImageFindings, evaluate_detection, froc_curve, threshold_at

BOOTSTRAP = Bootstrap(n_resamples=200)


def box(x, y, size=10):
    return [x, y, x + size, y + size]


def findings(patient, candidates, lesions):
    """Candidates as (x, y, score), lesions as (x, y, name)."""
    boxes = np.array([box(x, y) for x, y, _ in candidates], float).reshape(-1, 4)
    targets = np.array([box(x, y) for x, y, _ in lesions], float).reshape(-1, 4)
    scores = np.array([score for *_, score in candidates], float)
    return ImageFindings(patient, boxes, scores, targets, tuple(name for *_, name in lesions))


TWO_VIEWS = [
    findings("a", [(0, 0, 0.9), (40, 40, 0.8), (3, 0, 0.7)], [(2, 2, "1")]),  # a hit, a false alarm, the same hit again
    findings("a", [(70, 70, 0.6)], [(20, 20, "1")]),  # the lesion's other view is missed
    findings("b", [(0, 0, 0.5)], []),
    findings("c", [], [(50, 50, "1")]),
]


@pytest.fixture(scope="module")
def many():
    """60 images of 30 patients: a lesion in two of three, candidates anywhere."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(60):
        lesions = [(30.0, 30.0, "1")] if number % 3 else []
        candidates = [(*rng.integers(0, 61, 2), rng.random()) for _ in range(6)]
        images.append(findings(f"p{number // 2}", [*candidates, (31, 28, rng.random() + 0.2)], lesions))
    return images


def value(found, criterion, unit, rate):
    return found["sensitivity"][criterion][unit][rate]["value"]


def test_a_second_candidate_on_a_lesion_is_no_false_alarm_and_any_view_of_a_lesion_counts():
    found = evaluate_detection(TWO_VIEWS, BOOTSTRAP)
    # 4 images: at 0.25 false alarms per image the threshold is above the second one, 0.6
    assert value(found, "center", "box", "0.25") == pytest.approx(1 / 3)
    assert value(found, "center", "lesion", "0.25") == pytest.approx(1 / 2)
    assert found["counts"]["lesions"] == 2
    assert found["counts"]["images without a lesion"] == 1


def test_a_hit_counts_only_above_the_last_false_alarm_allowed():
    images = [findings("a", [(40, 40, 0.9), (0, 0, 0.8)], [(0, 0, "1")]), findings("b", [], [])]
    found = evaluate_detection(images, BOOTSTRAP, rates=(0.25, 0.5))
    assert value(found, "center", "box", "0.25") == 0  # no false alarm is allowed: the threshold is above 0.9
    assert value(found, "center", "box", "0.5") == 1
    assert threshold_at(images, 0.25) == 0.9
    assert threshold_at(images, 0.5) == -np.inf


def test_the_curve_by_centre_is_monais(many):
    """Their function looks candidates up in a mask of the lesions."""
    false, right, number = [], [], 0
    for image in many:
        mask = np.zeros((80, 80), int)
        for x0, y0, x1, y1 in image.lesion_boxes.astype(int):
            mask[y0 : y1 + 1, x0 : x1 + 1] = 1
        x, y = ((image.boxes[:, :2] + image.boxes[:, 2:]) / 2).astype(int).T
        of_image = compute_fp_tp_probs(image.scores, y, x, mask)
        false += list(of_image[0])
        right += list(of_image[1])
        number += of_image[2]
    rates, sensitivity = compute_froc_curve_data(np.array(false), np.array(right), number, len(many))
    own = froc_curve(many)
    np.testing.assert_allclose(own["false_alarms_per_image"][: len(rates)], rates[::-1])
    np.testing.assert_allclose(own["sensitivity"][: len(rates)], sensitivity[::-1])
    found = evaluate_detection(many, BOOTSTRAP)
    score = compute_froc_score(rates, sensitivity, (0.25, 0.5, 1, 2, 4))
    # theirs interpolates between thresholds
    assert value(found, "center", "box", "mean") == pytest.approx(score, abs=0.02)


def test_average_precision_is_close_to_monais(many):
    metric = COCOMetric(classes=["lesion"], iou_list=[0.1, 0.5], max_detection=[100])
    classes = [np.zeros(len(image.scores), int) for image in many]
    matches = matching_batch(
        box_iou,
        metric.iou_thresholds,
        [image.boxes for image in many],
        classes,
        [image.scores for image in many],
        [image.lesion_boxes for image in many],
        [np.zeros(len(image.lesions), int) for image in many],
    )
    theirs, _ = metric(matches)
    found = evaluate_detection(many, BOOTSTRAP)["average_precision"]
    for overlap in ("0.1", "0.5"):
        expected = theirs[f"AP_IoU_{float(overlap):.2f}_MaxDet_100"]
        # theirs takes the highest precision at 101 recalls, which is a little more
        assert expected - 0.05 < found[overlap]["value"] <= expected + 0.005


def test_intervals_are_over_patients(many):
    found = evaluate_detection(many, BOOTSTRAP)["sensitivity"]["center"]["box"]["1"]
    assert 0 <= found["low"] < found["value"] < found["high"] <= 1
    assert found["n_patients"] == 30
    assert found["n_units"] == 40


def test_overlap_is_stricter_than_the_centre(many):
    found = evaluate_detection(many, BOOTSTRAP)
    shares = [value(found, criterion, "box", "4") for criterion in ("center", "0.3", "0.5")]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[2]


def test_images_without_any_lesion_give_no_sensitivity():
    found = evaluate_detection([findings("a", [(0, 0, 0.5)], [])], BOOTSTRAP)
    sensitivity = found["sensitivity"]["center"]["lesion"]["1"]
    assert sensitivity["value"] is None
    assert sensitivity["reason"] == "no patients with a lesion"
