import logging

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, load, onnx_export

from miram.errors import InputError
from miram.inference.segmenting import load_segmenter
from miram.packaging import exports
from miram.packaging.exports import FORMATS, check_formats, export
from miram.packaging.package import package_bundle

from ..classifier_case import make_classifier, save_model

BATCHES = (1, 2, 5)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """MONAI's commands set up logging of their own."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    from ..conftest import REPOSITORY

    return package_bundle(REPOSITORY, "classification", checkpoint, tmp_path_factory.mktemp("all"), formats=FORMATS)


@pytest.fixture
def network(packaged):
    return load(packaged.name, bundle_dir=packaged.parent, workflow_type="inference", device="cpu").eval()


def of_onnx(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])


RUNTIMES = {
    "ts": lambda path: torch.jit.load(str(path)),
    "onnx": of_onnx,
    "pt2": lambda path: torch.export.load(path).module(),
}


def assert_same(run, network):
    """Equal logits, to the 1e-4 that is promised; they differ by 0.1 and more between images."""
    for batch in BATCHES:
        image = torch.randn(batch, 1, 16, 16)
        with torch.no_grad():
            expected, found = network(image), run(image)
        assert found.shape == (batch, 1)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", FORMATS)
def test_a_packaged_network_gives_the_same_logits_at_every_batch_size(exported, network, name):
    assert_same(RUNTIMES[name](exported / f"models/model.{name}"), network)


def arguments(bundle, suffix, tmp_path):
    return {
        "net_id": "network_def",
        "filepath": str(tmp_path / f"model.{suffix}"),
        "ckpt_file": str(bundle / "models/model.pt"),
        "meta_file": str(bundle / "configs/metadata.json"),
        "config_file": str(bundle / "configs/inference.json"),
    }


def test_monais_ckpt_export_scripts_the_network_as_the_model_zoo_does(packaged, network, tmp_path):
    ckpt_export(**arguments(packaged, "ts", tmp_path))
    assert_same(RUNTIMES["ts"](tmp_path / "model.ts"), network)
    files = {"metadata.json": "", "inference.json": ""}
    torch.jit.load(str(tmp_path / "model.ts"), _extra_files=files)
    assert b"not a medical device" in files["metadata.json"]
    assert b"NetAdapter" in files["inference.json"]


def test_monais_onnx_export_has_a_free_batch(packaged, network, tmp_path):
    names = {"input_names": ["image"], "output_names": ["pred"]}
    free = {"dynamic_axes": {"image": {0: "batch"}, "pred": {0: "batch"}}}
    onnx_export(
        **arguments(packaged, "onnx", tmp_path),
        use_trace=True,
        input_shape=[2, 1, 16, 16],
        converter_kwargs={**names, **free, "verbose": False},
    )
    assert_same(of_onnx(tmp_path / "model.onnx"), network)


@pytest.mark.parametrize("name", ["ts", "pt2"])
def test_a_classifier_that_pools_otherwise_is_exported_too(repository, tmp_path, name):
    path = save_model(tmp_path / "model.pt", make_classifier(2, "attention"), "margins", "multilabel", ["a", "b"])
    folder = package_bundle(repository, "classification", path, tmp_path, formats=[name])
    image = torch.randn(4, 1, 16, 16)
    found = RUNTIMES[name](folder / f"models/model.{name}")(image)
    torch.testing.assert_close(found, make_classifier(2, "attention")(image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_segmentation_is_exported_too(repository, segmentation_checkpoint, tmp_path, name):
    folder = package_bundle(repository, "segmentation", segmentation_checkpoint, tmp_path, formats=[name])
    image = torch.randn(5, 1, 16, 16)
    found = RUNTIMES[name](folder / f"models/model.{name}")(image)
    with torch.no_grad():
        expected = load_segmenter(segmentation_checkpoint).network(image)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_an_export_that_differs_is_an_error(exported, monkeypatch):
    monkeypatch.setitem(exports._READERS, "pt2", lambda path: lambda image: image.mean(dim=(2, 3)) + 1)
    with pytest.raises(RuntimeError, match=r"model.pt2 differs from the network by .* at batch size 1"):
        export(exported, "pt2")


def test_unknown_formats_and_missing_packages_are_said_before_anything_is_written(monkeypatch):
    with pytest.raises(InputError, match="'trt' is not one of ts, onnx, pt2"):
        check_formats(["ts", "trt"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    check_formats(["ts", "pt2"])
    with pytest.raises(InputError, match=r"needs packages that are not installed: onnxscript; pip install .*export"):
        check_formats(["onnx"])
