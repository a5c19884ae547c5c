"""No identifier of a DICOM header reaches what is written: planted in many places, and searched for in every byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from miram.packaging.kinds import KINDS
from miram.packaging.package import package_bundle

from ..classifier_case import make_segmenter, save_model
from ..image_files import dataset, picture, save
from ..prepare.cbis_ddsm.conftest import Miniature

SECRETS = {
    **{"PatientName": "Zebrowska^Quintessa", "PatientID": "QX-7731-PID", "PatientBirthDate": "19410203"},
    **{"AccessionNumber": "ACC99182731", "InstitutionName": "Sankt Wundervale", "OtherPatientNames": "Quellmalz^Q"},
    **{"ReferringPhysicianName": "Benninghof^Otto", "OperatorsName": "Twardowski^M", "StudyDate": "20231117"},
    **{"StudyID": "STUDY-55120", "PatientAddress": "Elsterweg 771", "PatientTelephoneNumbers": "0049-4471-9912"},
    **{"ImageComments": "comment on Zebrowska", "StudyDescription": "screening Zebrowska", "StationName": "MAMMO-XJ9"},
    **{
        "DeviceSerialNumber": "SN-448123",
        "RequestingPhysician": "Kirschbaum^L",
        "PatientInsurancePlanCodeSequence": "",
    },
}
PRIVATE = "PRIVATE-SECRET-5512"
WORDS = sorted(
    {word for text in (*SECRETS.values(), PRIVATE) for word in text.replace("^", " ").split() if len(word) > 5}
    - {"comment", "screening"}
    | {"Twardows"}
)


def plant(header: pydicom.Dataset, patient: int = 0) -> None:
    """Put identifiers into a header: in their own tags, in private ones, and where they do not belong."""
    for name, value in SECRETS.items():
        setattr(header, name, f"{value}-{patient}" if name == "PatientID" else value)
    block = header.private_block(0x0011, "SECRETS", create=True)
    block.add_new(0x01, "LO", PRIVATE)
    header.ViewPosition = "QUELLMALZ"  # a name in place of a view
    header.Laterality = "Zebrowska"  # no code string: pydicom quotes it in a warning


def write_images(folder: Path) -> None:
    """Eight readable images of four patients, and files that fail in many ways."""
    folder.mkdir()
    for number in range(8):
        header = dataset(picture(16, (80, 80), number))
        plant(header, number // 2)
        save(folder / f"{number}.dcm", header)
    failing: dict[str, dict[str, Any]] = {
        "frames": {"NumberOfFrames": 3},
        "window": {"WindowCenter": 10, "WindowWidth": 0},
        "no_image": {"Rows": None},
        "color": {"PhotometricInterpretation": "PALETTE COLOR"},
    }
    for name, elements in failing.items():
        header = dataset(picture(16, (80, 80)), **elements)
        plant(header)
        save(folder / f"{name}.dcm", header)
    whole = (folder / "0.dcm").read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[:-3000])
    (folder / "cut.dcm").write_bytes(whole[:700])
    # Identifiers where numbers and terms belong, which pydicom quotes in its errors.
    for name, element in (
        ("slope", "RescaleSlope"),
        ("spacing", "PixelSpacing"),
        ("term", "PhotometricInterpretation"),
    ):
        marker = {"slope": "12345678", "spacing": ["12345678", "1"], "term": "MONOCHROME2_"}[name]
        header = dataset(picture(16, (80, 80)), RescaleIntercept="1", **({element: marker}))
        plant(header)
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, header, enforce_file_format=True)
        content = stream.getvalue().replace(b"12345678", b"Twardows").replace(b"MONOCHROME2_", b"Twardowski^M")
        (folder / f"wrong_{name}.dcm").write_bytes(content)


def views_of(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and what they are under its compression."""
    yield name, content
    if content[:2] == b"\x1f\x8b":
        yield from views_of(f"{name} unzipped", gzip.decompress(content))
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from views_of(f"{name}:{member}", archive.read(member))
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        place = 8
        while place + 8 <= len(content):
            length = int.from_bytes(content[place : place + 4], "big")
            kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
            for start in (body.find(b"\x78"),) if kind in (b"zTXt", b"iTXt", b"iCCP") else ():
                yield f"{name}:{kind.decode()}", zlib.decompressobj().decompress(body[start:]) if start >= 0 else b""
            place += 12 + length


def leaks_in(name: str, content: bytes) -> list[str]:
    """The identifiers in a file, in any case, as UTF-8 or UTF-16, or as an unsalted hash."""
    found = []
    patients = [f"{SECRETS['PatientID']}-{number}" for number in range(4)]
    digests = [hashlib.new(kind, text.encode()).hexdigest() for kind in ("md5", "sha1", "sha256") for text in patients]
    needles = [word.lower() for word in (*WORDS, *digests)]
    encoded = {needle.encode(coding): needle for needle in needles for coding in ("utf-8", "utf-16-le")}
    for view, data in views_of(name, content):
        lower = data.lower()
        found += [f"{view}: {needle}" for code, needle in encoded.items() if code in lower]
    return found


def leaks_below(folder: Path) -> list[str]:
    """The identifiers in the files below a folder, and in their names."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths
    names = [leak for path in paths for leak in leaks_in("a name", path.as_posix().encode())]
    return names + [leak for path in paths for leak in leaks_in(path.name, path.read_bytes())]


def test_the_search_finds_what_is_hidden(tmp_path: Path) -> None:
    text = "of Zebrowska"
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode()))
    torch.save({"name": text}, tmp_path / "b.pt")
    info = PngInfo()
    info.add_text("Comment", text * 50, zip=True)
    Image.fromarray(picture(8)).save(tmp_path / "c.png", pnginfo=info)
    (tmp_path / "d.csv").write_text(text.upper(), encoding="utf-16-le")
    (tmp_path / "e.txt").write_text(hashlib.sha256(b"QX-7731-PID-2").hexdigest())
    found = leaks_below(tmp_path)
    assert {leak[0] for leak in found} == set("abcde")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A folder prepared by the script from planted files, and what the script printed."""
    root = tmp_path_factory.mktemp("privacy")
    write_images(root / "in")
    rows = "".join(f"{number}.dcm,{'ab'[number % 2]}\n" for number in range(8))
    (root / "labels.csv").write_text("image,diagnosis\n" + rows)
    script = Path(__file__).parents[2] / "scripts/prepare_folder.py"
    command = [sys.executable, script, "--input_dir", root / "in", "--output_dir", root / "data", "--crop_size", "80"]
    options = ["--labels_csv", root / "labels.csv", "--validation_fraction", "0.5", "--workers", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return root, done.stdout + done.stderr


def test_prepare_folder_leaves_no_identifier(prepared: tuple[Path, str]) -> None:
    root, printed = prepared
    report = (root / "data/report.csv").read_text()
    assert report.count(",error,") == 6, (
        "the failing files are in the report; those with an odd optional element are read"
    )
    assert leaks_below(root / "data") == []
    assert leaks_in("printed", printed.encode()) == []
    assert '"patient": "patient_0001"' in (root / "data/datalist.json").read_text()


def test_in_this_process_too_logs_and_messages_are_clean(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    from miram.prepare.folder import FolderSettings, prepare_folder

    write_images(tmp_path / "in")
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    capfd.readouterr()
    prepare_folder(tmp_path / "in", tmp_path / "out", FolderSettings(workers=0))
    assert leaks_in("log", "".join((*capfd.readouterr(), caplog.text)).encode()) == []


def test_prepare_cbis_ddsm_leaves_no_identifier(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    miniature = Miniature(tmp_path)
    for number in range(1, 4):
        paths = miniature.add(patient=f"P_0000{number}", box=(20, 70, 5, 35))
        for path in paths.values():
            header = pydicom.dcmread(path)
            plant(header)
            header.save_as(path)
    paths["image"].write_bytes(paths["image"].read_bytes()[:-4000])
    header = dataset(picture(), SeriesInstanceUID="1.2.33333333")
    header.save_as(tmp_path / "dicom/other.dcm", enforce_file_format=True)
    other = (tmp_path / "dicom/other.dcm").read_bytes()
    (tmp_path / "dicom/other.dcm").write_bytes(other.replace(b"1.2.33333333", b"Twardowski^M"))
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    capfd.readouterr()
    miniature.prepare(validation_fraction=0.5)
    assert ",error," in (miniature.output_dir / "report.csv").read_text()
    assert leaks_below(miniature.output_dir) == []
    assert leaks_in("log", "".join((*capfd.readouterr(), caplog.text)).encode()) == []


NETWORK = {"image_size": [32, 32], "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
DECODERS = [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]
RUN = {"max_epochs": 1, "warmup_epochs": 0, "batch_size": 2, "num_workers": 0, "device": "cpu"}


def run(config: str, run_id: str, workflow_type: str, **values: Any) -> None:
    workflow = ConfigWorkflow(
        f"configs/{config}.yaml", logging_file=False, workflow_type=workflow_type, run_id=run_id, **values
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def run_packaged(bundle: Path, source: Path, output_dir: Path, options: list[str]) -> str:
    """Run a packaged bundle on a folder as its user does, in a process of its own; what it prints."""
    command = [sys.executable, "-m", "monai.bundle", "run", "evaluating", "--config_file", "configs/inference.json"]
    places = ["--input", source, "--output_dir", output_dir, "--device", "cpu"]
    done = subprocess.run([*command, *places, *options], cwd=bundle, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_no_workflow_leaves_an_identifier(
    prepared: tuple[Path, str], repository: Path, tmp_path: Path, monkeypatch: Any, capfd: Any, caplog: Any
) -> None:
    root, _ = prepared
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    capfd.readouterr()
    runs = {"runs_dir": str(tmp_path), "dataset_dir": str(root / "data")}
    task = {"task": "diagnosis"}
    pictures = {"num_pictures": 1, "picture_interval": 1, "val_interval": 1}
    try:
        run("pretrain", "training", "train", **runs, **NETWORK, **RUN, **pictures, decoders=DECODERS)
        run("finetune", "training", "train", **runs, **RUN, **task, drop_path_rate=0.0)
        run("evaluate", "evaluating", "infer", **runs, **task, split="validation", n_resamples=20, num_workers=0)
        inference = {"runs_dir": runs["runs_dir"], "input": str(root / "in"), **task}
        run("inference", "evaluating", "infer", **inference, largest_crop=1000)
        run("riskmap", "evaluating", "infer", **inference, overlap=0.0)
        classifier = tmp_path / "finetune_diagnosis/model.pt"
        names = ["background", "lesion"]
        segmenter = save_model(tmp_path / "segmenter.pt", make_segmenter(), "segmentation", "binary", names)
        for kind in KINDS:
            model = segmenter if kind == "segmentation" else classifier
            bundle = package_bundle(repository, kind, model, tmp_path / "dist")
            options = ["--largest_crop", "1000"] if kind == "classification" else ["--overlap", "0.0"]
            printed = run_packaged(bundle, root / "in", tmp_path / "served" / kind, options)
            assert leaks_in(f"{kind} printed", printed.encode()) == []
    finally:
        monai.data.set_track_meta(True)
    written = {path.name for path in tmp_path.rglob("*")}
    assert {"checkpoint.pt", "backbone.pt", "model.pt", "report.html", "predictions.csv", "findings.csv"} <= written
    tables = [path.read_text() for name in ("predictions.csv", "findings.csv") for path in tmp_path.rglob(name)]
    assert sum("3 frames" in table for table in tables) == 5, "failing files are told"
    assert leaks_below(tmp_path) == []
    assert leaks_in("log", "".join((*capfd.readouterr(), caplog.text)).encode()) == []


def test_the_pseudonyms_follow_a_key_that_stays_in_the_folder(prepared: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = prepared
    key = (root / "data/.prepare/key").read_bytes()
    assert len(key) == 32
    others = [path.read_bytes() for path in (root / "data").rglob("*") if path.is_file() and path.name != "key"]
    assert not any(key in content or key.hex().encode() in content for content in others)
    assert np.unique(np.frombuffer(key, np.uint8)).size > 8, "random"
