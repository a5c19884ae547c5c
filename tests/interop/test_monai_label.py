"""MONAI Label's real server serves and trains the packaged bundles; asked over HTTP, with tiny networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

pytest.importorskip(
    "monailabel", reason="MONAI Label is not installed: scripts/make_interop_environment.sh makes an environment for it"
)

from miram.inference.mammograms import whole_breast
from miram.packaging.package import package_bundle
from miram.packaging.weights import load_packaged, saved_bytes
from miram.prepare.prepared import write_png16
from miram.readers.formats import read_image

from ..classifier_case import as_input, make_classifier, make_crop, make_segmenter, save_model
from ..conftest import REPOSITORY
from .dicomweb_stand_in import dicomweb
from .label_server import Client, running_server

CLASSES = ["BENIGN", "MALIGNANT"]
CLASSIFIER, MAPPER = "breast_lesion_classification", "breast_lesion_riskmap_segmentation"
SEGMENTER = "breast_lesion_segmentation"
SPACING = (0.07, 0.05)  # mm between rows, and between columns
pytestmark = pytest.mark.timeout(600)


def mammogram() -> np.ndarray:
    """(160, 128) uint16: air at the right, tissue at the left, and two bright squares in it."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :128]
    tissue = ((rows - 80) / 75) ** 2 + (columns / 100) ** 2 < 1
    pixels = np.where(tissue, rng.integers(10_000, 30_000, (160, 128)), 0).astype(np.uint16)
    pixels[60:68, 40:48] = pixels[100:108, 24:32] = 60_000
    return pixels


def write_dicom(path: Path, pixels: np.ndarray, bits: int = 16, inverted: bool = False) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.is_little_endian, header.is_implicit_VR = True, False
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = (generate_uid(entropy_srcs=[path.name, part]) for part in "12")
    header.Modality, header.PatientID, header.StudyDate, header.InstanceNumber = "MG", "P1", "20000101", 1
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, bits, bits - 1
    header.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    header.ImagerPixelSpacing = list(SPACING)  # what mammograms have, and all that ITK reads of them
    stored = pixels >> (16 - bits)
    header.PixelData = ((2**bits - 1 - stored) if inverted else stored).astype("<u2").tobytes()
    pydicom.dcmwrite(path, header, write_like_original=False)
    return path


def write_nifti(path: Path, pixels: np.ndarray) -> None:
    """One slice, columns first, as ITK writes it."""
    affine = np.diag([-SPACING[1], -SPACING[0], 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(pixels.T[:, :, None], affine), path)


def write_studies(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name, pixels in (("crop", make_crop(True, (1, 2), rng)), ("whole", mammogram())):
        write_png16(folder / f"{name}_png.png", pixels)
        write_nifti(folder / f"{name}_nifti.nii.gz", pixels)
        write_dicom(folder / f"{name}_dicom.dcm", pixels)
    for number in range(12):  # to be labelled; a malignant one has a bright square
        write_png16(folder / f"labelled_{number:02d}.png", make_crop(number >= 6, (number % 4, 1), rng))
    bad = {
        "color": rng.integers(0, 255, (32, 32, 3)).astype(np.uint8),
        "black": np.zeros((160, 128), np.uint8),
        "air": np.zeros((160, 128), np.uint8) + (rng.random((160, 128)) > 0.999),
    }
    for name, values in bad.items():
        PIL.Image.fromarray(values).save(folder / f"{name}.png")
    (folder / "damaged.png").write_bytes((folder / "crop_png.png").read_bytes()[:200])
    nibabel.save(
        nibabel.Nifti1Image(rng.integers(0, 999, (32, 32, 5)).astype(np.uint16), np.eye(4)), folder / "volume.nii.gz"
    )
    PIL.Image.fromarray((read_image(folder / "whole_png.png").pixels >> 8).astype(np.uint8)).save(folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All packaged bundles, of a classifier and a segmentation that have learnt what a bright square is."""
    folder = tmp_path_factory.mktemp("packaged")
    classifier = save_model(folder / "model.pt", make_classifier(steps=60), "pathology", "binary", CLASSES)
    network = make_segmenter(steps=60)
    segmenter = save_model(folder / "segmenter.pt", network, "segmentation", "binary", ["background", "lesion"])
    checkpoints = {"classification": classifier, "riskmap": classifier, "segmentation": segmenter}
    return [package_bundle(REPOSITORY, kind, checkpoint, folder) for kind, checkpoint in checkpoints.items()]


@pytest.fixture(scope="module")
def served(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path, Path]]:
    """The server on a folder of images, the folder of its own copies of the bundles, and that of the images."""
    folder = tmp_path_factory.mktemp("server")
    studies = write_studies(folder / "studies")
    settings = {"DATASTORE_FILE_EXT": ["*.png", "*.jpg", "*.nii.gz", "*.dcm"]}
    with running_server(folder, bundles, str(studies), settings) as client:
        yield client, folder / "monaibundle/model", studies


@pytest.fixture(scope="module")
def dicomweb_served(
    bundles: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, list[Path]]]:
    """The server on series of a DICOMweb server: 12 bit, and high values are dark."""
    folder = tmp_path_factory.mktemp("dicomweb")
    crop = make_crop(True, (2, 1), np.random.default_rng(4))
    files = [
        write_dicom(folder / f"{name}.dcm", pixels, bits=12, inverted=True)
        for name, pixels in (("crop", crop), ("whole", mammogram()))
    ]
    with dicomweb(files) as address:
        settings = {"DICOMWEB_SEARCH_FILTER": {"Modality": "MG"}, "DICOMWEB_CACHE_PATH": str(folder / "cache")}
        with running_server(folder, bundles, address, settings) as client:
            yield client, files


def expected_score(bundle: Path, path: Path) -> float:
    """What the bundle's network makes of a crop."""
    facts = json.loads((bundle / "configs/inference.json").read_text())["facts"]
    network = load_packaged(bundle / "models/model.pt", facts).network
    with torch.no_grad():
        return network(as_input([read_image(path).pixels])).sigmoid().item()


def expected_labels(bundle: Path, path: Path) -> np.ndarray:
    """(H, W): where the probabilities of the bundle's map are at its threshold or above."""
    parser = ConfigParser(json.loads((bundle / "configs/inference.json").read_text()))
    parser["bundle_root"], parser["device"], parser["progress"] = str(bundle), "cpu", False
    pixels = read_image(path).pixels
    image = torch.from_numpy(pixels.astype(np.float32))[None, None]
    with torch.no_grad():
        found = parser.get_parsed_content("inferer")(image, parser.get_parsed_content("network").eval())
    return (found[0, 0] >= parser.get_parsed_content("operating_point")).numpy() & whole_breast(pixels)


def test_the_bundles_are_listed_with_their_intended_use(served):
    info = served[0].info()
    assert {name: model["type"] for name, model in info["models"].items()} == {
        CLASSIFIER: "classification",
        MAPPER: "segmentation",
        SEGMENTER: "segmentation",
    }
    assert info["models"][SEGMENTER]["labels"] == {"lesion": 1}
    assert info["models"][CLASSIFIER]["labels"] == {"malignant": 0}
    assert all(model["dimension"] == 2 for model in info["models"].values())
    assert all("not a medical device" in model["description"] for model in info["models"].values())
    assert CLASSIFIER in info["trainers"]


@pytest.mark.parametrize("image", ["crop_png.png", "crop_nifti.nii.gz", "crop_dicom.dcm"])
def test_a_crop_of_any_format_gets_its_label_and_score(served, image):
    client, model, studies = served
    reply = client.classify(image.split(".")[0])
    (prediction,) = reply["prediction"]
    assert prediction["label"] == "malignant"
    assert prediction["score"] == pytest.approx(expected_score(model / CLASSIFIER, studies / image), abs=1e-5)
    assert prediction["score"] > 0.6  # it has a bright square
    assert reply["latencies"]["transform"]["intended_use"].startswith("Research use only")


@pytest.mark.parametrize(("bundle", "mapped_class"), [(MAPPER, "MALIGNANT"), (SEGMENTER, "lesion")])
@pytest.mark.parametrize("image", ["whole_png.png", "whole_nifti.nii.gz", "whole_dicom.dcm"])
def test_a_label_map_comes_back_on_the_grid_of_its_source(served, bundle, mapped_class, image, tmp_path):
    client, model, studies = served
    path = tmp_path / ("map.png" if image.endswith(".png") else "map.nii.gz")
    reply = client.label_map(bundle, image.split(".")[0], path)
    if path.suffix == ".png":
        labels = np.asarray(PIL.Image.open(path))
    else:
        volume = nibabel.load(path)
        assert volume.shape == (128, 160, 1)
        # NIfTI holds spacing in single precision
        np.testing.assert_allclose(np.abs(np.diag(volume.affine)), [SPACING[1], SPACING[0], 1, 1], rtol=1e-6)
        assert (np.diag(volume.affine)[:2] < 0).all()
        labels = np.asarray(volume.dataobj)[:, :, 0].T
    assert labels.dtype == np.uint8
    expected = expected_labels(model / bundle, studies / image)
    assert 0 < expected.mean() < 0.5
    np.testing.assert_array_equal(labels, expected)
    assert not labels[mammogram() == 0].any()
    assert labels[mammogram() == 60_000].mean() > 0.8
    assert (reply["mapped_class"], reply["threshold"]) == (mapped_class, 0.5)
    assert reply["intended_use"].startswith("Research use only")


def test_the_map_of_a_jpeg_is_given_without_loss(served, tmp_path):
    client, model, studies = served
    client.label_map(MAPPER, "photo", tmp_path / "map")
    with PIL.Image.open(tmp_path / "map") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), expected_labels(model / MAPPER, studies / "photo.jpg"))


@pytest.mark.parametrize(
    ("model", "image", "words"),
    [
        (CLASSIFIER, "whole_png", "looks like a whole mammogram"),
        (CLASSIFIER, "color", "is a color image"),
        (CLASSIFIER, "black", "is constant"),
        (CLASSIFIER, "damaged", "cannot be read"),
        (CLASSIFIER, "volume", "is a volume"),
        (CLASSIFIER, "unheard_of", "no image with that name"),
        (MAPPER, "black", "is constant"),
        (MAPPER, "air", "no breast was found"),
        (MAPPER, "color", "is a color image"),
        (MAPPER, "volume", "is a volume"),
        (SEGMENTER, "air", "no breast was found"),
        (SEGMENTER, "volume", "is a volume"),
    ],
)
def test_the_client_is_told_what_is_wrong_with_an_image(served, model, image, words):
    assert words in served[0].refusal(model, image)


@pytest.mark.parametrize("bundle", [CLASSIFIER, MAPPER, SEGMENTER])
def test_weights_of_another_network_are_refused_not_half_loaded(served, bundle):
    client, model, _ = served
    client.classify("crop_png")  # the classifier's config has been read: its weights are replaced while it is served
    path = model / bundle / "models/model.pt"
    kept = path.read_bytes()
    state = torch.load(path, weights_only=True)
    path.write_bytes(saved_bytes({key: value for key, value in state.items() if ".blocks.1." not in key}))
    assert "weights of another network" in client.refusal(bundle, "crop_png")
    path.write_bytes(kept)
    assert client.classify("crop_png")["prediction"][0]["label"] == "malignant"


def test_training_on_finished_labels_changes_what_is_served(served, tmp_path):
    client, model, studies = served
    config = model / CLASSIFIER / "configs/train.json"
    config.write_text(config.read_text().replace('"base_learning_rate": 0.0005', '"base_learning_rate": 0.5'))
    before = client.classify("crop_png")["prediction"][0]["score"]
    for number in range(12):  # the other way round than the network has learnt
        mask = np.full((32, 32), 1 if number >= 6 else 2, np.uint8)
        PIL.Image.fromarray(mask).save(tmp_path / "label.png")
        client.label(f"labelled_{number:02d}", tmp_path / "label.png")
    status, log = client.train(CLASSIFIER, max_epochs=4, val_split=0.25)
    assert status == "DONE", log[-3000:]
    after = client.classify("crop_png")["prediction"][0]["score"]
    assert after == pytest.approx(expected_score(model / CLASSIFIER, studies / "crop_png.png"), abs=1e-5)
    assert abs(after - before) > 0.01
    assert list((studies / "labels/final").iterdir())


def test_a_label_that_names_no_class_ends_training_with_what_it_should_be(served, tmp_path):
    client, model, studies = served
    kept = (model / CLASSIFIER / "models/model.pt").read_bytes()
    PIL.Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "label.png")
    client.label("labelled_00", tmp_path / "label.png")
    status, log = client.train(CLASSIFIER, max_epochs=1)
    (studies / "labels/final/labelled_00.png").unlink()
    assert status == "ERROR"
    assert "has these values other than 0: 7; give it one of 1 BENIGN, 2 MALIGNANT" in log
    assert (model / CLASSIFIER / "models/model.pt").read_bytes() == kept


def test_a_dicomweb_series_is_classified_as_its_dicom_is(dicomweb_served, bundles):
    client, (crop, _) = dicomweb_served
    score = client.classify(pydicom.dcmread(crop).SeriesInstanceUID)["prediction"][0]["score"]
    assert score == pytest.approx(expected_score(bundles[0], crop), abs=1e-5)
    assert score > 0.6


@pytest.mark.parametrize("number", [1, 2], ids=["riskmap", "segmentation"])
def test_a_dicomweb_series_is_mapped_on_the_grid_of_its_volume(dicomweb_served, bundles, number, tmp_path):
    client, (_, whole) = dicomweb_served
    series = pydicom.dcmread(whole).SeriesInstanceUID
    client.label_map(bundles[number].name, series, tmp_path / "map.nii.gz")
    labels = nibabel.load(tmp_path / "map.nii.gz")
    assert labels.shape == (128, 160, 1)
    np.testing.assert_array_equal(np.asarray(labels.dataobj)[:, :, 0].T, expected_labels(bundles[number], whole))
    (volume,) = client.log.parent.glob(f"cache/*/{series}.nii.gz")  # what MONAI Label made of the DICOM
    np.testing.assert_allclose(labels.affine, nibabel.load(volume).affine, atol=1e-6)
