"""
What inference in bfloat16 changes, on a CPU, with classifiers that have learnt something.

bfloat16 keeps 8 bits: a rounding is off by up to 0.4 %, and the features of an encoder by about 1 %. A probability
moves by at most a quarter of its logit's error, and less the surer it is: here by less than 0.01.
"""

import numpy as np
import pytest
import torch

from miram.data.tasks import Task
from miram.inference.calibrated import Calibration
from miram.inference.classifying import FlipInferer
from miram.inference.embedding import Embedding
from miram.inference.risk_map import ClassProbability, RiskMapInferer
from miram.inference.segmenting import SegmentationInferer
from miram.inference.tiles import FeatureCache, load_tile_encoder
from miram.inference.windows import window_to_input

from ..classifier_case import PREPROCESSING, SIZE, as_input, make_classifier, make_crop, make_segmenter
from ..exam_case import make_backbone

TOLERANCE = 0.01
TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))


def crops():
    rng = np.random.default_rng(3)
    return [make_crop(bool(number % 2), tuple(rng.integers(4, size=2)), rng) for number in range(32)]


@pytest.fixture(scope="module")
def classifier():
    return make_classifier(steps=30)


def differ_little(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Not at all would mean that nothing was computed in bfloat16."""
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("flips", [False, True])
def test_probabilities_of_crops_agree(flips, classifier):
    single, half = (FlipInferer(flips, name)(as_input(crops()), classifier) for name in ("float32", "bfloat16"))
    assert single.sigmoid().max() - single.sigmoid().min() > 0.3  # it has learnt something
    differ_little(half.sigmoid(), single.sigmoid())


@torch.no_grad()
def test_risk_maps_agree(classifier):
    view = np.zeros((96, 80), np.float32)
    view[8:-8, :60] = np.random.default_rng(0).integers(10_000, 30_000, size=(80, 60))
    view[40:48, 24:32] = 60_000
    limits = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    steps = window_to_input({**limits, "image_size": (16, 16)})
    answer = ClassProbability(TASK, Calibration(), "MALIGNANT")
    image = torch.from_numpy(view)[None, None]
    single, half = (
        RiskMapInferer((32, 32), 0.5, 16, steps, answer, progress=False, precision=name)(image, classifier)
        for name in ("float32", "bfloat16")
    )
    differ_little(half, single)


def test_segmentations_agree():
    view = np.random.default_rng(0).integers(10_000, 30_000, size=(48, 48)).astype(np.float32)
    view[8:16, 8:16] = 60_000
    image = torch.from_numpy(view)[None, None]
    network, steps = make_segmenter(steps=60), window_to_input(PREPROCESSING)
    with torch.no_grad():
        single, half = (
            SegmentationInferer((SIZE, SIZE), 0.5, 4, steps, precision=name)(image, network)
            for name in ("float32", "bfloat16")
        )
    assert single.max() - single.min() > 0.3  # it has learnt something
    differ_little(half, single)


def test_features_agree_and_the_file_says_in_which_precision_they_were_made(tmp_path):
    backbone = make_backbone(tmp_path / "backbone.pt")
    windows = [crop.repeat(2, 0).repeat(2, 1) for crop in crops()[:4]]
    encoders = [load_tile_encoder(backbone, "cpu", pool="mean", precision=name) for name in ("float32", "bfloat16")]
    single, half = map(Embedding, encoders)
    expected, found = (one.describe(windows) for one in (single, half))
    for name in expected:
        error = np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name])
        assert 0 < error < 0.01
    assert half.settings != single.settings
    caches = [FeatureCache(tmp_path, encoder).folder for encoder in encoders]
    assert caches[0] != caches[1]  # views' features in the other precision are not taken for these
