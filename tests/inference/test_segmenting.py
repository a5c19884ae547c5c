import numpy as np
import pytest
import torch

from miram.errors import InputError
from miram.inference.classifying import load_trained
from miram.inference.segmenting import MaskRegion, SegmentationInferer, load_segmenter, mask_regions
from miram.inference.windows import window_to_input
from miram.networks.segmenter import ViTSegmenter
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content

from ..classifier_case import ENCODER, PREPROCESSING, SIZE, as_input, make_classifier, make_segmenter, save_model

CLASSES = ["background", "lesion"]


def inferer(**options):
    given = {"roi_size": (SIZE, SIZE), "overlap": 0.5, "sw_batch_size": 4, **options}
    return SegmentationInferer(preprocessing=window_to_input(PREPROCESSING), **given)


def image_of(shape):
    return np.random.default_rng(0).integers(65536, size=shape).astype(np.uint16)


def test_a_window_has_the_probabilities_of_the_network_on_all_its_pixels():
    network, image = make_segmenter(), image_of((SIZE, SIZE))
    with torch.no_grad():
        found = inferer()(torch.from_numpy(image.astype(np.float32))[None, None], network)
        logits = network(as_input([image]))
    expected = torch.nn.functional.interpolate(logits, size=(SIZE, SIZE), mode="bilinear").sigmoid()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_small_image_is_padded_with_air_on_all_sides():
    image = image_of((20, 12))
    padded = np.pad(image, ((6, 6), (10, 10)))
    with torch.no_grad():
        small, large = (
            inferer()(torch.from_numpy(values.astype(np.float32))[None, None], make_segmenter())
            for values in (image, padded)
        )
    torch.testing.assert_close(small, large[:, :, 6:26, 10:22])


def test_the_parts_of_a_mask_are_its_regions():
    probability = np.zeros((6, 8), np.float32)
    probability[0, 0], probability[1, 1] = 0.6, 0.7  # touch at a corner
    probability[4, 4:7] = 0.5, 0.9, 0.5
    probability[2, 6] = 0.4
    found = inferer(threshold=0.5).regions(probability)
    expected = [MaskRegion(0.9, 4, 5, 3), MaskRegion(0.7, 1, 1, 2)]
    for region, other in zip(found, expected, strict=True):
        assert (region.row, region.column, region.pixels) == (other.row, other.column, other.pixels)
        assert region.probability == pytest.approx(other.probability)
    assert inferer(threshold=0.5).regions(probability, 1) == found[:1]
    assert mask_regions(np.zeros((4, 4)), np.zeros((4, 4))) == []


@pytest.mark.parametrize(("options", "name"), [({"overlap": 1.0}, "overlap"), ({"sw_batch_size": 0}, "sw_batch_size")])
def test_windows_that_cannot_slide_are_refused(options, name):
    with pytest.raises(InputError, match=name):
        inferer(**options)


def test_each_kind_of_model_names_the_configs_of_the_other(tmp_path):
    classifier = save_model(tmp_path / "classifier.pt", make_classifier(), "pathology", "binary", ["a", "b"])
    segmenter = save_model(tmp_path / "segmenter.pt", make_segmenter(), "segmentation", "binary", CLASSES)
    with pytest.raises(InputError, match=r"classifier\.pt is a classifier .*'pathology'.*riskmap\.yaml"):
        load_segmenter(classifier)
    with pytest.raises(InputError, match=r"segmenter\.pt segments lesions .*segment_inference\.yaml"):
        load_trained(segmenter)
    assert load_segmenter(segmenter, 2).task.scored == ("lesion",)


def test_a_segmentation_of_volumes_is_refused_where_images_are_segmented(tmp_path):
    encoder = {**ENCODER, "img_size": [8, 8, 8], "patch_size": [4, 4, 4], "spatial_dims": 3}
    task = {"name": "segmentation", "type": "binary", "classes": CLASSES}
    content = classifier_content(ViTSegmenter(encoder, feature_size=4), task, PREPROCESSING, {})
    save_weights_file(tmp_path / "model.pt", content)
    with pytest.raises(InputError, match=r"model\.pt segments images with 3 axes, not 2"):
        load_segmenter(tmp_path / "model.pt", 2)
    assert load_segmenter(tmp_path / "model.pt").network.encoder.spatial_dims == 3
