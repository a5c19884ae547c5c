import json
import shutil
import sys
from types import ModuleType

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from miram.errors import InputError
from miram.packaging.label_serving import (
    AnswerClassd,
    AnswerMapd,
    CheckServedd,
    LoadServedCropd,
    ServedClassifier,
    dicom_source,
)
from miram.packaging.weights import read_state, saved_bytes
from miram.prepare.prepared import write_png16

from ..image_files import picture, write_dicom


class HTTPException(Exception):
    """Stands in for starlette's, which is there only where MONAI Label is."""

    def __init__(self, status_code: int, detail: str) -> None:
        super().__init__(detail)
        self.status_code = status_code


@pytest.fixture(autouse=True)
def _starlette(monkeypatch):
    exceptions = ModuleType("starlette.exceptions")
    exceptions.HTTPException = HTTPException
    monkeypatch.setitem(sys.modules, "starlette", ModuleType("starlette"))
    monkeypatch.setitem(sys.modules, "starlette.exceptions", exceptions)


@pytest.fixture
def classifier(packaged, tmp_path):
    """What is served, from a file that a test may change."""
    path = shutil.copy(packaged / "models/model.pt", tmp_path / "model.pt")
    return ServedClassifier(path, json.loads((packaged / "configs/inference.json").read_text())["facts"])


@pytest.fixture
def crop(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (40, 50)).astype(np.uint16)
    write_png16(tmp_path / "crop.png", pixels)
    return str(tmp_path / "crop.png"), pixels


def test_the_client_is_told_of_bad_input(crop, classifier):
    check = CheckServedd([LoadServedCropd("image", (64, 64), 45)], classifier)
    with pytest.raises(HTTPException, match="looks like a whole mammogram") as caught:
        check({"image": crop[0]})
    assert caught.value.status_code == 400
    with pytest.raises(HTTPException, match="no image with that name"):
        check({"image": ""})


def test_weights_are_read_again_when_their_file_changes(classifier):
    first = classifier.probabilities()
    assert classifier.probabilities() is first
    state = read_state(classifier.path)
    classifier.path.write_bytes(saved_bytes({key: value + 1 for key, value in state.items()}))
    assert classifier.probabilities() is not first
    del state["fc.bias"]
    classifier.path.write_bytes(saved_bytes(state))
    with pytest.raises(InputError, match="weights of another network"):
        classifier.probabilities()


def test_an_answer_is_one_dimensional_and_leaves_the_image_out(classifier):
    data = {"image": torch.zeros(1, 32, 32), "pred": torch.zeros(1), "latencies": {"pre": {}}}
    answered = AnswerClassd(classifier)(data)
    assert "image" not in answered
    assert isinstance(answered["pred"], MetaTensor)
    assert answered["pred"].tolist() == [0.5]
    assert answered["latencies"]["pre"] == {}
    assert answered["latencies"]["intended_use"].startswith("Research use only")


@pytest.mark.parametrize(
    ("source", "asked", "given"),
    [
        ("a.jpg", None, ".png"),
        ("a.dcm", None, ".nii.gz"),
        ("a.dcm", ".nrrd", ".nrrd"),
        ("a.png", None, None),
        ("a.nii.gz", None, None),
    ],
)
def test_a_map_is_given_in_a_format_that_can_hold_it(source, asked, given):
    answered = AnswerMapd({"threshold": 0.3})({"image_path": source, "result_extension": asked})
    assert answered["result_extension"] == given
    assert answered["result"]["threshold"] == 0.3
    assert answered["result"]["intended_use"].startswith("Research use only")


def test_the_dicom_beside_a_volume_is_taken_if_it_is_the_only_one(tmp_path):
    volume = tmp_path / "1.2.840.7.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 1), np.uint8), np.eye(4)), volume)
    assert dicom_source(volume) == volume
    folder = tmp_path / "1.2.840.7"
    folder.mkdir()
    assert dicom_source(volume) == volume
    (folder / "1.2.840.8.dcm").touch()
    assert dicom_source(volume) == folder / "1.2.840.8.dcm"
    (folder / "1.2.840.9.dcm").touch()
    assert dicom_source(volume) == volume


def test_a_crop_served_as_a_volume_is_read_from_its_dicom(tmp_path):
    pixels = picture(shape=(40, 50))
    (tmp_path / "1.2.840.7").mkdir()
    write_dicom(tmp_path / "1.2.840.7/1.dcm", pixels)
    volume = tmp_path / "1.2.840.7.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 1), np.uint8), np.eye(4)), volume)
    loaded = LoadServedCropd("image", (64, 64), 100)({"image": str(volume)})["image"]
    assert loaded.shape == (1, 40, 50)
    assert np.ptp(loaded.numpy()) > 0
