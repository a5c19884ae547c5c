import pytest
import torch

from miram.data.tasks import Task
from miram.errors import InputError
from miram.inference.calibrated import Calibration
from miram.inference.classifying import (
    FlipInferer,
    Probabilitiesd,
    crop_to_input,
    items_of_task,
    load_trained,
    run_name,
    run_unless_empty,
)
from miram.losses.reconstruction import downsample

from ..classifier_case import make_classifier, make_folder, save_model

CLASSES = ["BENIGN", "MALIGNANT"]


@pytest.fixture
def trained(tmp_path):
    return load_trained(save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", CLASSES))


def test_a_trained_model_is_loaded_with_its_task(trained):
    assert trained.task == Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
    assert not trained.network.training
    assert trained.calibration.model_sha256 == trained.sha256
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(trained.network(image), make_classifier()(image), rtol=0, atol=0)


def test_a_missing_model_and_one_of_another_task_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match=r"no trained model .*none.pt: train one first .*--task density"):
        load_trained(tmp_path / "none.pt", "density")
    with pytest.raises(InputError, match=r"for the task 'pathology', not 'density'; give --task pathology"):
        load_trained(trained.path, "density")


def test_items_are_those_of_the_task_and_must_have_labels(trained, tmp_path):
    folder = make_folder(tmp_path / "data", {"validation": 2, "test": 0, "training": 1})
    assert len(items_of_task(trained, folder, "validation")) == 4
    with pytest.raises(InputError, match=r"test split .* is empty.*--split validation"):
        items_of_task(trained, folder, "test")
    assert items_of_task(trained, folder, "test", required=False) == []
    with pytest.raises(InputError, match=r"split 'all' is not one of"):
        items_of_task(trained, folder, "all")
    other = save_model(tmp_path / "other.pt", make_classifier(3), "density", "multiclass", ["a", "b", "c"])
    with pytest.raises(InputError, match=r"classes of 'density' are 1, 2, 3, 4 .* but a, b, c"):
        items_of_task(load_trained(other), folder, "validation")


def test_flips_average_the_logits_of_mirror_images_and_quarter_turns(trained):
    image = torch.randn(2, 1, 16, 16)
    versions = [turned for one in (image, image.flip(3)) for turned in (one.rot90(k, (2, 3)) for k in range(4))]
    expected = sum(trained.network(version) for version in versions) / 8
    torch.testing.assert_close(FlipInferer()(image, trained.network), expected)
    torch.testing.assert_close(FlipInferer(False)(image, trained.network), trained.network(image))


def test_probabilities_take_the_calibration_that_is_in_place(trained):
    calibration = Calibration()
    transform = Probabilitiesd("pred", trained.task, calibration)
    sample = {"pred": torch.tensor([2.0])}
    assert transform(sample)["pred"].item() == pytest.approx(torch.tensor(2.0).sigmoid().item())
    calibration.scale, calibration.bias = [0.25], [1.0]
    assert transform(sample)["pred"].item() == pytest.approx(torch.tensor(1.5).sigmoid().item())
    assert sample["pred"].item() == 2.0


def test_crops_are_reduced_as_in_training():
    crop = torch.arange(64.0).reshape(1, 8, 8) * 1000
    limits = {"a_min": 0, "a_max": 65535, "b_min": 0.0, "b_max": 65535.0}
    steps = crop_to_input(lambda sample: sample, {**limits, "field_of_view": [6, 6], "image_size": [3, 3]})
    torch.testing.assert_close(steps({"image": crop})["image"], downsample(crop[None, :, 1:7, 1:7], (3, 3))[0])


def test_the_usual_mode_is_not_named():
    assert run_name("pathology", "finetune") == "pathology"
    assert run_name("pathology", "linear_probe") == "linear_probe_pathology"


def test_an_empty_split_is_not_run():
    class Evaluator:
        runs = 0

        def run(self):
            self.runs += 1

    evaluator = Evaluator()
    run_unless_empty(evaluator, [])
    assert evaluator.runs == 0
    run_unless_empty(evaluator, [{"image": "a"}])
    assert evaluator.runs == 1
