import os

import numpy as np
import pytest
from monai.data import MetaTensor

from miram.errors import InputError
from miram.inference.inputs import (
    Inputs,
    LoadCropd,
    find_inputs,
    largest_crop,
    output_names,
    reduce_to,
    stored_crop_size,
)
from miram.inference.mammograms import LoadMammogramd, find_mammograms
from miram.prepare.prepared import write_png16, write_volume

from ..image_files import picture, write_dicom


@pytest.fixture
def folder(tmp_path):
    write_png16(tmp_path / "a.png", picture())
    (tmp_path / "sub").mkdir()
    write_dicom(tmp_path / "sub/b.dcm", picture(seed=1))
    write_volume(tmp_path / "c.nii.gz", picture(shape=(8, 8, 8)), None)
    write_png16(tmp_path / "full.png", picture(shape=(300, 20)))
    write_png16(tmp_path / "flat.png", np.full((9, 9), 7, np.uint16))
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either")
    return tmp_path


def test_a_folder_gives_its_images_and_says_what_was_left_out(folder):
    found = find_inputs(folder, largest_crop=200)
    assert found.names == ["a.png", "sub/b.dcm"]
    assert [item["image"] for item in found.items] == [str(folder / name) for name in found.names]
    reasons = {"full.png": "whole mammogram", "flat.png": "same value", "c.nii.gz": "a volume", "broken.dcm": "DICOM"}
    assert found.problems.keys() == reasons.keys()
    for name, text in reasons.items():
        assert text in found.problems[name]


def test_links_are_followed_or_told_of_and_what_is_hidden_is_not_taken(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere")
    write_png16(outside / "d.png", picture(seed=2))
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "annexed.dcm").symlink_to("nowhere")
    (folder / ".hidden").mkdir()
    write_png16(folder / ".hidden/e.png", picture(seed=3))
    found = find_inputs(folder, largest_crop=200, workers=0)
    assert found.names == ["a.png", "linked/d.png", "sub/b.dcm"]
    assert found.problems["annexed.dcm"].startswith("annexed.dcm: a link that leads nowhere")
    assert found.problems["loop"] == "loop: a link to the folder itself, which is found by that name"


def test_names_that_are_not_utf8_are_shown_with_their_bytes(folder):
    for old, new in (("a.png", b"\xe4.png"), ("flat.png", b"\xf6.png")):
        (folder / old).rename(folder / os.fsdecode(new))
    found = find_inputs(folder, largest_crop=200, workers=0)
    assert found.names == ["sub/b.dcm", r"\xe4.png"]
    assert LoadCropd("image", (60, 60), 200)(found.items[1])["image"].shape == (1, 60, 50)
    assert found.problems[r"\xf6.png"].endswith(r"\xf6.png is constant: every pixel has the same value")
    assert output_names(found.names) == ["sub__b", "_xe4"]


def test_a_name_that_itk_does_not_open_costs_its_file_alone(folder):
    for old, new in (("sub/b.dcm", b"\xe4.dcm"), ("broken.dcm", b"\xf6.mha")):
        (folder / old).rename(folder / os.fsdecode(new))
    found = find_mammograms(folder, workers=0)
    assert found.names == ["a.png", "full.png"]
    assert found.problems[r"\xe4.dcm"].endswith("not UTF-8, which itk cannot open; rename the file")
    assert found.problems[r"\xf6.mha"].endswith("not UTF-8, which itk cannot open; rename the file")


def test_volumes_for_a_network_of_volumes(folder):
    assert find_inputs(folder, spatial_dims=3, largest_crop=200).names == ["c.nii.gz"]


def test_one_file(folder):
    found = find_inputs(folder / "sub/b.dcm")
    assert found.names == ["b.dcm"]
    with pytest.raises(InputError, match="300 x 20 pixels, more than largest_crop=299"):
        find_inputs(folder / "full.png", largest_crop=299)


def test_a_folder_is_read_in_processes_that_may_be_given_up(folder):
    with pytest.raises(InputError, match=r"b\.dcm took longer than 1e-06 seconds"):
        find_inputs(folder / "sub", time_limit=1e-6)  # less than it takes to hand the path over


def test_nothing_to_predict_is_an_error(tmp_path):
    for source, message in ((None, "give --input"), (tmp_path / "x", "there is no"), (tmp_path, "holds no image")):
        with pytest.raises(InputError, match=message):
            find_inputs(source)


@pytest.mark.parametrize(("shape", "expected"), [((80, 40), (60, 30)), ((60, 60), (60, 60)), ((10, 20), (10, 20))])
def test_only_a_larger_image_is_reduced_in_its_proportions(shape, expected):
    pixels = picture(shape=shape)
    reduced = reduce_to(pixels, (60, 60))
    assert reduced.shape == expected
    if shape == expected:
        np.testing.assert_array_equal(reduced, pixels)


def test_a_crop_is_loaded_rows_first_and_reduced_if_it_is_larger(folder):
    loaded = LoadCropd("image", (500, 500), 500)({"image": folder / "a.png"})["image"]
    assert isinstance(loaded, MetaTensor)
    np.testing.assert_array_equal(loaded.numpy(), picture()[None])
    assert LoadCropd("image", (60, 60), 500)({"image": folder / "a.png"})["image"].shape == (1, 60, 50)
    with pytest.raises(InputError, match=r"a\.png has .* more than largest_crop=45"):
        LoadCropd("image", (500, 500), 45)({"image": folder / "a.png"})


def test_each_image_has_files_of_its_own():
    names = output_names(["a.png", "b/a.png", "a b.nii.gz", "c.dcm", "c.png"])
    assert names[:3] == ["a", "b__a", "a_b"]
    assert len(set(names)) == 5
    assert all(name.startswith("c_") for name in names[3:])


def test_what_a_header_could_not_be_used_for_is_logged(tmp_path, caplog):
    path = write_dicom(tmp_path / "a.dcm", picture(), WindowCenter=100, WindowWidth=0)
    LoadCropd("image", (64, 64), 500)({"image": path})
    LoadMammogramd("image")({"image": path})
    messages = [f"{path}: window of the header cannot be used and is ignored"] * 2
    assert [record.message for record in caplog.records] == messages


@pytest.mark.parametrize(
    ("prepared", "stored", "largest"),
    [({}, [160, 160], 512), ({"crop_size": 150}, [150, 150], 512), ({"crops": "whole"}, [160, 160], 10**9)],
)
def test_sizes_follow_from_how_training_crops_were_made(prepared, stored, largest):
    assert stored_crop_size(prepared, [128, 128]) == stored
    assert largest_crop(prepared, [128, 128]) == largest


def test_inputs_become_samples_with_their_place():
    assert Inputs([{"image": "a"}, {"image": "b"}], ["a", "b"], {}).samples[1] == {"image": "b", "index": 1}
