import subprocess

import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, RandFlipd, RandSpatialCropd

from miram.errors import InputError
from miram.loading.seeded import SeededDataset, SeededSampler, make_loader
from miram.prepare.prepared import write_png16


def make_dataset(count=10, seed=0, cache_rate=0.0):
    rng = np.random.default_rng(0)
    data = [{"label": torch.from_numpy(rng.normal(size=(1, 12, 12)))} for _ in range(count)]
    random = [RandSpatialCropd("label", (8, 8), random_size=False), RandFlipd("label", prob=0.5)]
    return SeededDataset(data, Compose(random), seed, cache_rate)


def test_a_sample_looks_the_same_whenever_and_wherever_it_is_read():
    one, two = make_dataset(), make_dataset(cache_rate=1.0)
    _ = [one[3, index] for index in range(10)]  # other reads before it
    assert torch.equal(one[5, 7]["label"], two[5, 7]["label"])
    assert (one[5, 7]["epoch"], one[5, 7]["index"]) == (5, 7)


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_is_damaged_since_it_was_prepared_is_named(tmp_path, cache_rate, num_workers):
    write_png16(tmp_path / "a.png", np.arange(4000, dtype=np.uint16).reshape(50, 80))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    load = Compose([LoadImaged("image", reader="PILReader")])
    with pytest.raises(InputError, match=r"a\.png cannot be read or transformed \(.*run the prepare script"):
        list(
            make_loader(
                SeededDataset([{"image": tmp_path / "a.png"}], load, cache_rate=cache_rate), 1, False, num_workers
            )
        )


def test_another_epoch_or_seed_looks_different():
    dataset = make_dataset()
    views = {dataset[epoch, 0]["label"].sum().item() for epoch in range(20)}
    assert len(views) > 5
    assert not torch.equal(dataset[0, 0]["label"], make_dataset(seed=1)[0, 0]["label"])


def test_the_processes_together_see_what_one_would_see():
    whole = SeededSampler(23, seed=4, num_replicas=1, rank=0)
    shares = [SeededSampler(23, seed=4, num_replicas=3, rank=rank) for rank in range(3)]
    for sampler in (whole, *shares):
        sampler.set_epoch(9)
    dealt = [pair for group in zip(*shares, strict=True) for pair in group]
    assert dealt == list(whole)[:21]
    assert sorted(index for _, index in whole) == list(range(23))
    assert {epoch for epoch, _ in whole} == {9}
    assert [len(list(share)) for share in shares] == [len(share) for share in shares] == [7, 7, 7]


def test_in_validation_every_sample_is_in_one_share():
    shares = [SeededSampler(23, shuffle=False, num_replicas=3, rank=rank) for rank in range(3)]
    assert sorted(index for share in shares for _, index in share) == list(range(23))
    assert [len(share) for share in shares] == [8, 8, 7]


def test_fewer_validation_images_than_processes_are_refused_as_one_would_wait_in_vain():
    with pytest.raises(InputError, match="3 validation images, but 4 processes"):
        SeededSampler(3, shuffle=False, num_replicas=4, rank=0)
    assert len(SeededSampler(0, shuffle=False, num_replicas=4, rank=0)) == 0  # nothing held out: there is no validation


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_within_an_epoch_and_loads_nothing_before(workers):
    whole = read(make_loader(make_dataset(13), 4, shuffle=True), 2)
    loader = make_loader(make_dataset(13), 4, shuffle=True, num_workers=workers)
    loader.sampler.start_within(2, 8)
    rest = read(loader, 2)
    assert [order for order, _ in rest] == [order for order, _ in whole[2:]]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[2:], strict=True))
    assert len(read(loader, 3)) == len(loader) == 3  # the next epoch is whole


def test_a_loader_draws_nothing_that_a_network_would_draw():
    state = torch.get_rng_state()
    read(make_loader(make_dataset(), 4, shuffle=True), 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_changes_with_the_epoch_but_not_in_validation():
    training, validation = SeededSampler(50, seed=1), SeededSampler(50, shuffle=False)
    orders = []
    for epoch in (1, 2):
        training.set_epoch(epoch)
        validation.set_epoch(epoch)
        orders.append([index for _, index in training])
        assert list(validation) == [(0, index) for index in range(50)]
    assert orders[0] != orders[1]


def read(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [(batch["index"].tolist(), batch["label"]) for batch in loader]


def test_workers_change_nothing():
    alone = read(make_loader(make_dataset(), 4, shuffle=True), 3)
    helped = read(make_loader(make_dataset(), 4, shuffle=True, num_workers=2), 3)
    assert [order for order, _ in alone] == [order for order, _ in helped]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(alone, helped, strict=True))


def test_loader_processes_outlive_a_signal_of_others_and_end_when_the_trainer_ends():
    """As a batch queue does it, which sends SIGTERM to every process of a job."""
    loader = make_loader(make_dataset(), 4, shuffle=True, num_workers=1)
    batches = iter(loader)
    (worker,) = batches._workers
    next(batches)
    subprocess.run(["sh", "-c", f"kill -TERM {worker.pid}; kill -INT {worker.pid}"], check=True)
    next(batches)
    assert worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def test_training_batches_are_full_and_validation_loses_nothing():
    assert [len(order) for order, _ in read(make_loader(make_dataset(), 4, shuffle=True), 1)] == [4, 4]
    assert [len(order) for order, _ in read(make_loader(make_dataset(), 4, shuffle=False), 1)] == [4, 4, 2]
    assert len(make_loader(make_dataset(), 4, shuffle=True)) == 2


def test_fewer_images_than_a_batch_are_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"10 images, fewer than one batch of 16.*batch_size to 10"):
        make_loader(make_dataset(), 16, shuffle=True)
