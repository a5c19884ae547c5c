import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from miram.data.datalist import load_split, write_datalist
from miram.errors import InputError
from miram.loading.packed import find_packed, open_packed, pack_folder
from miram.loading.packed_loader import PackedLoader, copy_window, packed_or_files
from miram.loading.sampling import BalancedSampler, lesion_sampler
from miram.loading.seeded import SeededDataset, SeededSampler, make_loader
from miram.prepare.prepared import write_png16
from miram.transforms.windows import standard_transforms

RANGES = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


def make_folder(path, images, validation=0, **options):
    """A prepared and packed folder of these images, the first of them for validation."""
    items = []
    for n, image in enumerate(images):
        write_png16(path / f"images/{n:02}.png", image.astype(np.uint16))
        items.append({"image": f"images/{n:02}.png", "mask": None, "patient": f"p{n}"})
    splits = {"training": items[validation:], "validation": items[:validation], "test": []}
    write_datalist(path, splits)
    pack_folder(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five validation crops of several sizes, three for training."""
    random = np.random.default_rng(0)
    sizes = [(16, 16), (15, 16), (8, 16), (5, 7), (16, 9), (16, 16), (16, 16), (16, 16)]
    return make_folder(tmp_path, [random.integers(0, 65536, size) for size in sizes], validation=5)


def packed(folder, split, size=8, batch_size=2, **options):
    items, training = load_split(folder, split), split == "training"
    return PackedLoader(open_packed(folder), items, (size, size), batch_size, RANGES, training, **options)


def plain(folder, split, size, batch_size, seed=0, crop_area=None):
    """The same by MONAI's transforms."""
    items = [{"label": item["image"]} for item in load_split(folder, split)]
    transform = standard_transforms((size, size), RANGES, random=split == "training", crop_area=crop_area)
    return make_loader(SeededDataset(items, transform, seed, cache_rate=1.0), batch_size, split == "training")


def test_validation_batches_are_those_of_the_transforms(folder):
    expected = list(plain(folder, "validation", 8, 2))
    found = list(packed(folder, "validation"))
    assert len(found) == len(packed(folder, "validation")) == 3
    for one, other in zip(found, expected, strict=True):
        # both scale 16-bit values in float32, in another order of operations
        torch.testing.assert_close(one["label"], torch.as_tensor(other["label"]), atol=1e-6, rtol=0)
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["epoch"], other["epoch"])


def count_views(loader, epochs):
    """How often each view of the only image comes."""
    counts = Counter()
    for epoch in range(1, epochs + 1):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            pixels = ((torch.as_tensor(batch["label"]) + 2) * 65535 / 4).round().int()
            counts[tuple(pixels.flatten().tolist())] += 1
    return counts


def test_training_views_have_the_distribution_of_the_transforms(tmp_path):
    """An image of 3 x 3 pixels has four windows of 2 x 2, each in eight positions: 32 views."""
    folder = make_folder(tmp_path, [7000 * np.arange(9).reshape(3, 3)])
    expected = count_views(plain(folder, "training", 2, 1), 1600)
    found = count_views(packed(folder, "training", size=2, batch_size=1), 1600)
    assert len(found) == len(expected) == 32
    for view, count in expected.items():  # about 33 or 67 each; two counts differ with a deviation of sqrt(2 x 67)
        assert abs(found[view] - count) < 5 * (2 * 67) ** 0.5


def count_rows(loader, epochs):
    """How often a window shows which rows of the only image, each of which has its number for gray level."""
    counts = Counter()
    for epoch in range(1, epochs + 1):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            rows = (torch.as_tensor(batch["label"]) + 2) * 65535 / 4 / 9000
            assert rows.shape == (1, 1, 4, 4)
            counts[tuple(round(row.item()) for row in (rows.min(), rows.max()))] += 1
    return counts


def test_windows_of_other_sizes_have_the_distribution_of_the_transforms(tmp_path):
    """Of 6 rows, 2 to 4 are shown, so that there are 5 + 4 + 3 windows; the outer pixels of one keep their values."""
    folder = make_folder(tmp_path, [np.repeat(9000 * np.arange(6)[:, None], 6, axis=1)])
    area, epochs = (0.25, 1.0), 600
    expected = count_rows(plain(folder, "training", 4, 1, crop_area=area), epochs)
    found = count_rows(packed(folder, "training", size=4, batch_size=1, crop_area=area), epochs)
    assert len(found) == len(expected) == 12
    for window, count in expected.items():
        assert abs(found[window] - count) < 5 * (2 * max(expected.values())) ** 0.5


@pytest.mark.parametrize("size", [3, 4, 7, 8, 11])
def test_a_part_is_cut_from_the_crop_with_its_air(size):
    """Of a crop smaller than the window, any part of the window, also one of air alone."""
    crop = np.arange(1, size * size + 1).reshape(size, size)
    before = max(8 - size, 0) // 2
    air = np.pad(crop, (before, max(8 - size, 0) - before))
    for place, side in [(0.0, 2), (0.5, 5), (0.99, 1), (0.999, 8), (0.3, 3)]:
        window = np.zeros((8, 8), int)
        copy_window(crop, window, (place, 0.0), (side, 2))
        first = int(place * (len(air) - side + 1))
        assert np.array_equal(window[:side, :2], air[first : first + side, :2])
        assert not window[side:].any()
        assert not window[:, 2:].any()


def test_windows_of_other_sizes_come_from_the_packed_copy_unless_they_shrink(folder):
    for area, kind in (((0.3, 1.0), PackedLoader), ((0.3, 1.5), type(plain(folder, "training", 8, 2)))):
        files = plain(folder, "training", 8, 2, crop_area=area)
        loader = packed_or_files(files, find_packed(folder), (8, 8), RANGES, crop_area=area)
        assert isinstance(loader, kind)
    assert packed_or_files(files, find_packed(folder), (8, 8), RANGES) is files  # the config's transforms have one


def test_batches_follow_from_seed_and_epoch(folder):
    loader = packed(folder, "training", seed=3)
    loader.sampler.set_epoch(4)
    first, again = next(iter(loader)), next(iter(loader))
    assert torch.equal(first["label"], again["label"])
    assert first["epoch"].tolist() == [4, 4]
    loader.sampler.set_epoch(5)
    assert not torch.equal(first["label"], next(iter(loader))["label"])


def test_shards_are_visited_a_few_at_a_time(tmp_path):
    folder = make_folder(tmp_path, [np.full((8, 8), n) for n in range(24)], shard_bytes=4 * 2 * 64)
    loader = packed(folder, "training", batch_size=4, shards_at_once=2)  # of six shards of four crops
    orders = []
    for epoch in (1, 2):
        loader.sampler.set_epoch(epoch)
        order = torch.cat([batch["index"] for batch in loader]).tolist()
        assert sorted(order) == list(range(24))
        groups = [{sample // 4 for sample in order[first : first + 8]} for first in (0, 8, 16)]
        assert [len(group) for group in groups] == [2, 2, 2]
        orders.append(order)
    assert orders[0] != orders[1]


def test_an_error_while_gathering_is_raised_where_batches_are_taken(folder, monkeypatch):
    loader = packed(folder, "validation")
    monkeypatch.setattr(loader, "_gather", lambda epoch, index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loader)


def test_a_split_smaller_than_a_batch_is_refused(folder):
    with pytest.raises(InputError, match="batch_size to 3 or less"):
        packed(folder, "training", batch_size=4)


def test_a_volume_window_is_refused(folder):
    with pytest.raises(InputError, match="are 2D"):
        PackedLoader(open_packed(folder), load_split(folder, "training"), (8, 8, 8), 2, RANGES, True)


def test_a_run_goes_on_within_an_epoch(folder):
    whole, rest = (packed(folder, "training", batch_size=1) for _ in range(2))
    rest.sampler.start_within(2, 1)
    for loader in (whole, rest):
        loader.sampler.set_epoch(2)
    expected, found = list(whole)[1:], list(rest)
    assert len(found) == 2
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["label"], other["label"])


def test_the_loader_of_files_is_replaced_with_its_order(folder):
    files = plain(folder, "training", 8, 2, seed=5)
    loader = packed_or_files(files, find_packed(folder), (8, 8), RANGES)
    assert isinstance(loader, PackedLoader)
    expected = packed(folder, "training", seed=5)
    for one in (files, loader, expected):
        one.sampler.set_epoch(3)
    batch, same = next(iter(loader)), next(iter(expected))
    assert torch.equal(batch["label"], same["label"])
    assert torch.equal(batch["index"], next(iter(files))["index"])


def test_only_one_may_choose_the_order(folder):
    files = plain(folder, "training", 8, 2)
    files.sampler.__class__ = type("Other", (SeededSampler,), {})
    with pytest.raises(InputError, match="an order of its own"):
        packed_or_files(files, find_packed(folder), (8, 8), RANGES, shards_at_once=1)


def test_files_are_read_without_a_copy_and_with_transforms_of_ones_own(folder):
    files = plain(folder, "training", 8, 2)
    assert packed_or_files(files, find_packed(folder), (8, 8), {**RANGES, "b_max": 1.0}) is files
    files.dataset.transform.transforms[-1].prob = 0.0
    assert packed_or_files(files, find_packed(folder), (8, 8), RANGES) is files
    dataset = plain(folder, "training", 8, 2).dataset
    files = make_loader(dataset, 2, True, sampler=BalancedSampler(np.ones(len(dataset))))  # repeats crops
    assert packed_or_files(files, find_packed(folder), (8, 8), RANGES) is files
    files = plain(folder, "training", 8, 2)
    shutil.rmtree(folder / "packed")
    assert packed_or_files(files, find_packed(folder), (8, 8), RANGES) is files


def test_lesions_are_drawn_with_their_share(tmp_path):
    folder = make_folder(tmp_path, [np.full((8, 8), n) for n in range(12)])
    items = [{**item, "crop": "lesion" if n < 3 else "tissue"} for n, item in enumerate(load_split(folder, "training"))]
    dataset = SeededDataset([{"label": item["image"]} for item in items], standard_transforms((8, 8), RANGES, True))
    files = make_loader(dataset, 2, True, sampler=lesion_sampler(items, 0.5))
    loader = packed_or_files(files, find_packed(folder), (8, 8), RANGES)
    assert isinstance(loader, PackedLoader)
    loader.sampler.set_epoch(1)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert sum(int(index) < 3 for batch in batches for index in batch["index"]) == 3
