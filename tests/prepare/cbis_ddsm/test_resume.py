from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm import resume
from miram.prepare.cbis_ddsm.layout import DicomFile
from miram.prepare.cbis_ddsm.lesions import CropSettings, ImageCrops, ImageJob
from miram.prepare.cbis_ddsm.resume import check_settings, cut_or_recall, save_settings

FILE = DicomFile("a.dcm", 10, 20, "1.2", 30, 40)
JOB = ImageJob(FILE, {"lesion": (FILE,)}, ("tissue_1",))


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[ImageJob]:
    """The jobs that were worked on: each gives its crops without reading anything."""
    done: list[ImageJob] = []

    def cut(job: ImageJob, dicom_dir: Path, output_dir: Path, settings: CropSettings) -> ImageCrops:
        done.append(job)
        for path in ("images/lesion.png", "masks/lesion.png", "images/tissue_1.png"):
            (output_dir / path).parent.mkdir(exist_ok=True)
            (output_dir / path).touch()
        return ImageCrops({"lesion": 0.5, "tissue_1": 1.0}, notes={"lesion": "n"}, scaling="s")

    monkeypatch.setattr(resume, "cut_image", cut)
    return done


def test_done_job_is_recalled_as_it_was(tmp_path: Path, cuts: list[ImageJob]) -> None:
    first = cut_or_recall(JOB, tmp_path, tmp_path, CropSettings())
    assert cut_or_recall(JOB, tmp_path, tmp_path, CropSettings()) == first
    assert len(cuts) == 1


@pytest.mark.parametrize("path", ["images/lesion.png", "masks/lesion.png", "images/tissue_1.png"])
def test_lost_file_is_made_again(tmp_path: Path, cuts: list[ImageJob], path: str) -> None:
    cut_or_recall(JOB, tmp_path, tmp_path, CropSettings())
    (tmp_path / path).unlink()
    cut_or_recall(JOB, tmp_path, tmp_path, CropSettings())
    assert len(cuts) == 2


@pytest.mark.parametrize("changed", [DicomFile("a.dcm", 11, 20, "1.2"), DicomFile("a.dcm", 10, 21, "1.2")])
def test_changed_source_is_cut_again(tmp_path: Path, cuts: list[ImageJob], changed: DicomFile) -> None:
    cut_or_recall(JOB, tmp_path, tmp_path, CropSettings())
    cut_or_recall(ImageJob(changed, JOB.lesions, JOB.tissue), tmp_path, tmp_path, CropSettings())
    assert len(cuts) == 2


def test_failed_job_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [ImageCrops(problems={"lesion": "broken"}), ImageCrops(scaling="mended")]
    monkeypatch.setattr(resume, "cut_image", lambda *arguments: answers.pop(0))
    cut_or_recall(JOB, tmp_path, tmp_path, CropSettings())
    assert cut_or_recall(JOB, tmp_path, tmp_path, CropSettings()).scaling == "mended"


@pytest.mark.parametrize(
    ("crops", "change", "told"),
    [
        ("lesion", {"context": 2.0}, "context was 1.5, now 2.0"),
        ("lesion", {"mask_tolerance": 0.1}, "mask_tolerance was 0.05, now 0.1"),
        ("tissue", {"seed": 1}, "seed was 0, now 1"),
        ("both", {"crops_per_image": 9}, "crops_per_image was 4, now 9"),
        ("tissue", {"crops": "lesion"}, "crops was tissue, now lesion"),
        ("tissue", {"context": 2.0}, ""),
        ("lesion", {"seed": 1, "crops_per_image": 9}, ""),
    ],
)
def test_settings_that_decide_pixels_are_kept(tmp_path: Path, crops: str, change: dict[str, Any], told: str) -> None:
    save_settings(tmp_path, CropSettings(crops=crops))
    (tmp_path / "images").mkdir()
    check_settings(tmp_path, CropSettings(crops=crops))
    changed = CropSettings(**{"crops": crops, **change})  # type: ignore[arg-type]
    if told:
        with pytest.raises(InputError, match=rf"\(--{told}\)"):
            check_settings(tmp_path, changed)
    else:
        check_settings(tmp_path, changed)
