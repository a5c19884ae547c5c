import hashlib
import json

import pytest

from miram.data.datalist import read_datalist
from miram.errors import InputError
from miram.generated import generate
from miram.generated.generate import generate_cbis_ddsm
from miram.generated.patients import CaseSettings
from miram.prepare.cbis_ddsm.prepare import prepare_cbis_ddsm
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings

SMALL = CaseSettings(height=(240, 280), large_fraction=0.0)


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "cbis_ddsm"
    return folder, generate_cbis_ddsm(folder, patients=8, workers=0, cases=SMALL)


def test_files_do_not_depend_on_the_number_of_workers(generated, tmp_path):
    folder, _ = generated
    generate_cbis_ddsm(tmp_path / "two", patients=8, workers=2, cases=SMALL)
    assert contents(tmp_path / "two") == contents(folder)


def test_another_seed_gives_other_files(generated, tmp_path):
    other = generate_cbis_ddsm(tmp_path / "other", patients=8, seed=1, workers=0, cases=SMALL)
    assert not set(contents(other.dicom_dir)) & set(contents(generated[1].dicom_dir))


def test_a_finished_folder_is_left_as_it_is(generated):
    folder, first = generated
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = generate_cbis_ddsm(folder, patients=8, workers=0, cases=SMALL)
    assert first.new_films == first.films > 0
    assert again.new_films == 0
    assert again.rows == first.rows
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_run_is_completed(generated, tmp_path, monkeypatch):
    drawn, write = [], generate.write_film

    def interrupt(film, *rest):
        if len(drawn) == 4:
            raise KeyboardInterrupt
        drawn.append(film)
        write(film, *rest)

    monkeypatch.setattr(generate, "write_film", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate_cbis_ddsm(tmp_path / "part", patients=8, workers=0, cases=SMALL)
    monkeypatch.undo()
    second = generate_cbis_ddsm(tmp_path / "part", patients=8, workers=0, cases=SMALL)
    assert second.new_films == second.films - 4
    assert contents(tmp_path / "part") == contents(generated[0])


def test_other_arguments_for_the_same_folder_are_refused(generated):
    with pytest.raises(InputError, match=r"other arguments \(patients, seed\).*another output_dir"):
        generate_cbis_ddsm(generated[0], patients=9, seed=1, workers=0, cases=SMALL)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="not empty"):
        generate_cbis_ddsm(tmp_path, workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("arguments", "message"), [({"patients": 4}, "at least 5"), ({"seed": -1}, "seed is -1")])
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        generate_cbis_ddsm(tmp_path / "none", **arguments)
    assert not (tmp_path / "none").exists()


def test_prepare_reads_it_as_it_reads_the_real_data(generated, tmp_path):
    _, data = generated
    prepare_cbis_ddsm(data.dicom_dir, data.csv_dir, tmp_path, CropSettings("lesion", 64), workers=0)
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    items = [item for split in ("training", "validation", "test") for item in datalist[split]]
    report = (tmp_path / "report.csv").read_text().splitlines()[1:]
    assert len(report) == sum(data.rows.values())
    assert not any(",error," in line for line in report)
    assert len(items) == sum(",crop," in line for line in report)
    assert any("in a test table" in line for line in report)  # the patient in two lists


def test_prepared_it_says_that_it_was_generated(generated, tmp_path):
    _, data = generated
    prepare_cbis_ddsm(data.dicom_dir, data.csv_dir, tmp_path / "crops", CropSettings("lesion", 64), workers=0)
    settings = FolderSettings(CropSettings(crop_size=64, crops_per_image=1), workers=0)
    prepare_folder(data.dicom_dir, tmp_path / "folder", settings)
    crops, folder = (read_datalist(tmp_path / name) for name in ("crops", "folder"))
    assert (crops["name"], crops["licence"]) == ("miniature CBIS-DDSM (generated)", "CC0-1.0")
    assert "doi" not in crops["source"]
    assert crops["generated"] is folder["generated"] is True
