import nibabel
import numpy as np
import PIL.Image
import pytest

from miram.data.tasks import Task
from miram.errors import InputError
from miram.packaging.label_training import LoadLabelledCropd, are_pairs, label_class, read_label, split_items
from miram.prepare.prepared import write_png16

TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))


def write_label(path, values):
    """(H, W) values, as a PNG or, columns first, as NIfTI."""
    if path.suffix == ".png":
        PIL.Image.fromarray(values).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(values.T[:, :, None], np.eye(4)), path)
    return str(path)


def make_pairs(folder, count):
    """Labelled images; in the order of their names first all benign, then all malignant ones."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(count):
        image = folder / f"image_{number:02d}.png"
        write_png16(image, rng.integers(0, 65535, (40, 30)).astype(np.uint16))
        values = np.full((40, 30), 1 + (2 * number >= count), np.uint8)
        pairs.append({"image": str(image), "label": write_label(folder / f"label_{number:02d}.png", values)})
    return pairs


def test_only_an_image_and_a_label_make_a_pair():
    assert are_pairs([{"image": "a", "label": "b"}])
    assert not are_pairs([{"image": "a", "label": "b", "pathology": "BENIGN"}])
    assert not are_pairs([])


def test_items_of_a_prepared_folder_stay_as_they_are():
    items = [{"image": "a", "patient": "1", "pathology": "BENIGN"}]
    assert split_items(items, items[:0], TASK) == {"training": items, "validation": []}


def test_pairs_are_split_anew_so_that_both_parts_have_both_classes(tmp_path):
    pairs = make_pairs(tmp_path, 8)
    splits = split_items(pairs[:6], pairs[6:], TASK)  # as MONAI Label cuts: the last two are malignant
    assert {name: len(part) for name, part in splits.items()} == {"training": 6, "validation": 2}
    assert {item["pathology"] for item in splits["validation"]} == {"BENIGN", "MALIGNANT"}
    items = [*splits["training"], *splits["validation"]]
    assert {item["image"] for item in items} == {pair["image"] for pair in pairs}
    for item in items:
        number = int(item["image"][-6:-4])
        assert (item["pathology"], item["patient"]) == (TASK.classes[number >= 4], f"image_{number:02d}")


@pytest.mark.parametrize(
    ("count", "held_out", "words"), [(8, 0, "nothing to validate on"), (2, 1, "has only one class of the task")]
)
def test_too_few_labels_are_an_error_that_says_so(tmp_path, count, held_out, words):
    pairs = make_pairs(tmp_path, count)
    with pytest.raises(InputError, match=words):
        split_items(pairs[: count - held_out], pairs[count - held_out :], TASK)


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_a_label_is_read_rows_first_whatever_its_format(tmp_path, suffix):
    values = np.zeros((5, 7), np.uint8)
    values[1, 4] = 2
    np.testing.assert_array_equal(read_label(write_label(tmp_path / f"label{suffix}", values)), values)


def test_a_label_of_several_slices_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 3), np.uint8), np.eye(4)), tmp_path / "label.nii.gz")
    with pytest.raises(InputError, match="has 4x4x3 values"):
        read_label(tmp_path / "label.nii.gz")


@pytest.mark.parametrize(("value", "name"), [(1, "BENIGN"), (2, "MALIGNANT")])
def test_the_value_of_a_label_is_the_class_counted_from_one(value, name):
    assert label_class("label.png", np.array([[0, value], [value, 0]]), TASK) == name


@pytest.mark.parametrize(("values", "found"), [([0, 0], "none"), ([1, 2], "1, 2"), ([0, 3], "3"), ([0, 1.5], "1.5")])
def test_a_label_that_names_no_one_class_is_refused(values, found):
    with pytest.raises(InputError, match=f"other than 0: {found}; give it one of 1 BENIGN, 2 MALIGNANT"):
        label_class("label.png", np.array([values]), TASK)


def load(folder, pixels, marked, **options):
    write_png16(folder / "image.png", pixels)
    label = write_label(folder / "label.png", marked.astype(np.uint8))
    transform = LoadLabelledCropd("image", crop_size=(16, 16), largest_crop=50, **options)
    return transform({"image": str(folder / "image.png"), "label_file": label})


def test_a_marked_lesion_is_cut_with_its_context(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (90, 80)).astype(np.uint16)
    marked = np.zeros((90, 80), bool)
    marked[40:48, 20:26] = True  # its context, 12, is less than a crop
    loaded = load(tmp_path, pixels, marked)
    assert loaded.keys() == {"image"}
    np.testing.assert_array_equal(loaded["image"][0], pixels[36:52, 15:31])
    marked[40:60] = True
    assert load(tmp_path, pixels, marked)["image"].shape == (1, 16, 16)  # larger, so reduced


def test_a_label_all_over_its_image_says_that_it_is_the_crop(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (12, 14)).astype(np.uint16)
    np.testing.assert_array_equal(load(tmp_path, pixels, np.ones((12, 14)))["image"][0], pixels)


def test_a_prepared_crop_is_loaded_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (60, 60)).astype(np.uint16)
    write_png16(tmp_path / "image.png", pixels)
    transform = LoadLabelledCropd("image", crop_size=(16, 16), largest_crop=50)
    np.testing.assert_array_equal(transform({"image": str(tmp_path / "image.png")})["image"][0], pixels)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((60, 60), "looks like a whole mammogram"), ((12, 11), "has 12x11 pixels, but its image 60x60")],
)
def test_a_label_that_does_not_fit_its_image_is_refused(tmp_path, shape, words):
    pixels = np.arange(3600, dtype=np.uint16).reshape(60, 60)
    with pytest.raises(InputError, match=words):
        load(tmp_path, pixels, np.ones(shape))


def test_several_classes_at_a_time_cannot_be_labelled(tmp_path):
    task = Task("mass_margins", "multilabel", ("CIRCUMSCRIBED", "OBSCURED"))
    pairs = make_pairs(tmp_path, 4)
    with pytest.raises(InputError, match="which a label map cannot name"):
        split_items(pairs[:3], pairs[3:], task)
