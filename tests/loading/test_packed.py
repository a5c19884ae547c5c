import errno
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from miram.data.datalist import SPLITS, read_datalist, write_datalist
from miram.errors import InputError
from miram.loading import packed
from miram.loading.packed import ensure_packed, open_packed, pack_folder
from miram.prepare.prepared import read_png16, write_png16

TWO_CROPS = 2 * 2 * 16 * 16  # bytes


@pytest.fixture
def folder(tmp_path):
    """Seven crops, one of them smaller."""
    random = np.random.default_rng(0)
    items = []
    for n in range(7):
        shape = (12, 10) if n == 3 else (16, 16)
        write_png16(tmp_path / f"images/{n}.png", random.integers(0, 65536, shape).astype(np.uint16))
        items.append({"image": f"images/{n}.png", "mask": None, "patient": f"p{n}"})
    write_datalist(tmp_path, {"training": items[:4], "validation": items[4:6], "test": items[6:]})
    return tmp_path


def test_crops_come_back_as_they_are_from_every_shard(folder):
    pack_folder(folder, shard_bytes=TWO_CROPS)
    store = open_packed(folder)
    assert [len(shard) for shard in store.shards] == [2, 2, 2, 1]
    assert len(store.numbers) == 7
    for path, number in store.numbers.items():
        np.testing.assert_array_equal(store.crop(number), read_png16(folder / path))


def test_an_interrupted_packing_is_continued_and_not_used_before(folder):
    pack_folder(folder, shard_bytes=TWO_CROPS)
    index = folder / "packed/packed.json"
    index.write_text(index.read_text().replace('"finished": true', '"finished": false'))
    (folder / "packed/shard_00003.npy").unlink()
    kept = (folder / "packed/shard_00000.npy").stat().st_mtime_ns
    with pytest.raises(InputError, match=r"no packed copy .* scripts/pack.py"):
        open_packed(folder)
    pack_folder(folder, shard_bytes=TWO_CROPS)
    assert (folder / "packed/shard_00000.npy").stat().st_mtime_ns == kept
    assert len(open_packed(folder).numbers) == 7


def test_a_copy_of_another_data_list_is_refused_and_replaced(folder):
    pack_folder(folder)
    text = (folder / "datalist.json").read_text()
    (folder / "datalist.json").write_text(text.replace('"patient": "p0"', '"patient": "other"'))
    with pytest.raises(InputError, match="packed from another state"):
        open_packed(folder)
    pack_folder(folder)
    assert len(open_packed(folder).numbers) == 7


@pytest.mark.parametrize("damage", ["truncated", "pickle", "other"])
def test_a_damaged_shard_is_refused(folder, damage):
    pack_folder(folder)
    path = folder / "packed/shard_00000.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros((7, 8, 8), np.uint16))
    with pytest.raises(InputError, match="shard_00000"):
        open_packed(folder)


def test_volumes_are_not_packed(folder):
    text = (folder / "datalist.json").read_text()
    (folder / "datalist.json").write_text(text.replace("images/0.png", "images/0.nii.gz"))
    with pytest.raises(InputError, match="only 2D crops"):
        pack_folder(folder)


def test_a_crop_that_is_no_png_is_named(folder):
    (folder / "images/2.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"2\.png"):
        pack_folder(folder)


def test_a_folder_is_packed_once_and_again_when_a_crop_changes(folder, monkeypatch):
    assert ensure_packed(folder)
    path = folder / "packed/shard_00000.npy"
    made = path.stat().st_mtime_ns
    assert ensure_packed(folder)
    assert path.stat().st_mtime_ns == made
    write_png16(folder / "images/1.png", np.zeros((16, 16), np.uint16))
    with pytest.raises(InputError, match="another state"):
        open_packed(folder)
    assert ensure_packed(folder)
    assert open_packed(folder).crop(1).max() == 0


def test_runs_that_start_at_once_pack_one_after_the_other(folder, monkeypatch, caplog):
    pack_folder(folder, shard_bytes=TWO_CROPS)
    write_png16(folder / "images/0.png", np.zeros((16, 16), np.uint16))  # what is packed is of an earlier state now
    writing, both = [], []

    def write_slowly(path, *rest):
        writing.append(path)
        both.append(len(writing) > 1)
        time.sleep(0.01)
        write_shard(path, *rest)
        writing.remove(path)

    write_shard = packed._write_shard
    monkeypatch.setattr(packed, "_write_shard", write_slowly)
    with ThreadPoolExecutor(2) as pool, caplog.at_level("INFO"):
        list(pool.map(lambda _: pack_folder(folder, shard_bytes=TWO_CROPS), range(2)))
    assert both == [False] * 4
    assert sum("another run is packing" in record.message for record in caplog.records) == 1
    assert not open_packed(folder).crop(0).any()


def test_folders_that_share_out_the_same_crops_share_a_copy(folder, tmp_path):
    made = pack_folder(folder, packed_dir=tmp_path / "shared") / "shard_00000.npy"
    before = made.stat().st_mtime_ns
    items = [item for split in SPLITS for item in read_datalist(folder)[split]]
    write_datalist(folder, {"training": items[4:], "validation": items[2:4], "test": items[:2]})
    assert ensure_packed(folder, tmp_path / "shared")
    assert made.stat().st_mtime_ns == before


def test_the_copy_can_be_elsewhere(folder, tmp_path):
    assert ensure_packed(folder, tmp_path / "fast disk")
    assert not (folder / "packed").exists()
    assert len(open_packed(folder, tmp_path / "fast disk").numbers) == 7


def test_a_disk_without_room_is_left_alone_with_one_warning(folder, monkeypatch, caplog):
    monkeypatch.setattr("miram.loading.packed.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with caplog.at_level(logging.WARNING):  # another test may have lowered it
        assert not ensure_packed(folder)
    assert len(caplog.records) == 1
    assert "give --packed_dir" in caplog.text
    assert not list((folder / "packed").glob("*.npy"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fills_up_or_cannot_be_written_is_not_an_error(folder, monkeypatch, caplog, number):
    def full(*_):
        raise OSError(number, "cannot be written")

    monkeypatch.setattr("miram.loading.packed._write_shard", full)
    assert not ensure_packed(folder)
    assert "read from their files" in caplog.text


def test_another_fault_of_the_disk_is_an_error(folder, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr("miram.loading.packed._write_shard", broken)
    with pytest.raises(OSError, match="input/output"):
        ensure_packed(folder)


def test_volumes_are_read_from_their_files(folder):
    text = (folder / "datalist.json").read_text()
    (folder / "datalist.json").write_text(text.replace("images/0.png", "images/0.nii.gz"))
    assert not ensure_packed(folder)
