import logging

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandGaussianNoised

from miram.errors import InputError
from miram.loading.mixup import MixupDataset
from miram.loading.sampling import (
    BalancedSampler,
    ShareSampler,
    epochs_for,
    fitting_batch_size,
    lesion_sampler,
    make_training_loader,
    sample_weights,
)
from miram.loading.seeded import SeededDataset, SeededSampler


def dataset():
    """90 negative samples, then 10 positive ones."""
    data = [{"image": torch.zeros(1), "label": np.array([i >= 90], dtype=np.float32)} for i in range(100)]
    return SeededDataset(data, Compose([]), seed=7)


def test_classes_are_drawn_equally_often():
    weights = sample_weights(np.array([[0]] * 90 + [[1]] * 10))
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())


def test_of_several_labels_the_rarest_counts():
    weights = sample_weights(np.array([[1, 0], [1, 0], [1, 1], [0, 0]]))
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1])


def test_draws_follow_from_seed_and_epoch_alone():
    def draws(seed, epoch):
        sampler = BalancedSampler(np.ones(20), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draws(0, 1) == draws(0, 1)
    assert draws(0, 1) != [(1, *key[1:]) for key in draws(0, 2)]
    assert draws(0, 1) != draws(1, 1)
    assert {key[0] for key in draws(0, 3)} == {3}


def test_a_sample_that_comes_again_in_an_epoch_is_augmented_in_another_way():
    data = [{"image": torch.zeros(1, 8, 8), "label": np.ones(1, np.float32)}] * 3
    transform = Compose([RandGaussianNoised("image", prob=1.0)])
    sampler = BalancedSampler(np.array([1, 0, 0]), 0, 1, 0)
    sampler.set_epoch(1)
    keys = list(sampler)
    assert keys == [(1, 0), (1, 0, 2), (1, 0, 3)]
    for samples in (SeededDataset(data, transform, seed=7), MixupDataset(data, transform, seed=7, alpha=0.5)):
        seen = [samples[key] for key in keys]
        assert {sample["index"] for sample in seen} == {0}
        assert len({float(sample["image"].sum()) for sample in seen}) == 3


def test_processes_share_the_draws_of_one():
    shares = [list(BalancedSampler(np.ones(20), 0, 2, rank)) for rank in (0, 1)]
    together = [pair for pairs in zip(*shares, strict=True) for pair in pairs]
    assert together == list(BalancedSampler(np.ones(20), 0))
    assert len(BalancedSampler(np.ones(21), 0, 2, 0)) == len(list(BalancedSampler(np.ones(21), 0, 2, 0))) == 10


def test_draws_go_on_within_an_epoch():
    sampler = BalancedSampler(np.ones(20), 0)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.start_within(2, 5)
    assert list(sampler) == whole[5:]


def test_a_balanced_loader_gives_half_positives():
    loader = make_training_loader(dataset(), 10, balanced=True)
    labels = torch.cat([batch["label"] for batch in loader])
    assert len(labels) == len(loader) * 10 == 100
    assert labels.mean().item() == pytest.approx(0.5, abs=0.15)  # three deviations of 100 draws


def test_without_balance_each_sample_comes_once():
    drawn = torch.cat([batch["index"] for batch in make_training_loader(dataset(), 10, balanced=False)])
    assert sorted(drawn.tolist()) == list(range(100))
    assert drawn.tolist() != list(range(100))


def test_the_batch_fits_a_small_training_set(caplog):
    assert fitting_batch_size(32, 100, 2) == 32
    with caplog.at_level(logging.INFO):
        assert fitting_batch_size(32, 50, 2) == 25
    assert "batch_size is 25 instead of 32" in caplog.text
    with pytest.raises(InputError, match="too few for 8 processes"):
        fitting_batch_size(32, 7, 8)


@pytest.mark.parametrize(("steps", "epochs"), [(10, 5), (2, 15), (7, 5)])
def test_few_steps_an_epoch_take_more_epochs(steps, epochs):
    assert epochs_for(5, 30, steps) == epochs


def crops(lesions, tissue):
    return [{"crop": kind} for kind, count in (("tissue", tissue), ("lesion", lesions)) for _ in range(count)]


def epoch_of(sampler, epoch=1):
    sampler.set_epoch(epoch)
    return [index for _, index in sampler]


@pytest.mark.parametrize(
    ("lesions", "tissue", "share", "expected"),
    [(10, 50, 0.5, (10, 10)), (10, 50, 0.25, (10, 30)), (10, 5, 0.5, (5, 5)), (30, 30, 0.75, (30, 10))],
)
def test_an_epoch_has_the_share_of_lesions_and_no_crop_twice(lesions, tissue, share, expected):
    sampler = lesion_sampler(crops(lesions, tissue), share)
    drawn = epoch_of(sampler)
    assert len(drawn) == len(set(drawn)) == len(sampler) == sum(expected)
    assert sum(index >= tissue for index in drawn) == expected[0]
    halves = [sum(index >= tissue for index in half) for half in (drawn[::2], drawn[1::2])]
    assert min(halves) > 0  # they are mixed


def test_every_tissue_crop_comes_in_some_epoch_and_draws_follow_from_seed_and_epoch():
    items = crops(10, 50)
    sampler = lesion_sampler(items, 0.5)
    seen = {index for epoch in range(60) for index in epoch_of(sampler, epoch)}
    assert seen == set(range(60))
    assert epoch_of(sampler, 3) == epoch_of(lesion_sampler(items, 0.5), 3)
    assert epoch_of(sampler, 3) != epoch_of(sampler, 4)
    assert epoch_of(sampler, 3) != epoch_of(lesion_sampler(items, 0.5, seed=1), 3)


def test_processes_together_draw_what_one_draws():
    marked = [index >= 50 for index in range(60)]
    shares = [epoch_of(ShareSampler(marked, 0.5, num_replicas=2, rank=rank)) for rank in (0, 1)]
    together = [index for pair in zip(*shares, strict=True) for index in pair]
    assert together == epoch_of(ShareSampler(marked, 0.5))


def test_without_a_share_the_order_is_that_of_all_crops():
    assert epoch_of(lesion_sampler(crops(3, 9), None)) == epoch_of(SeededSampler(12))


@pytest.mark.parametrize(
    ("items", "share", "message"),
    [
        (crops(5, 5), 1.0, "lesion_share is 1.0; give a number above 0 and below 1"),
        (crops(5, 0), 0.5, "5 of 5 training crops are of lesions; prepare the folder with --crops both"),
        ([{"image": "a.png"}], 0.5, "0 of 1 training crops"),
    ],
)
def test_shares_that_cannot_be_had_are_refused(items, share, message):
    with pytest.raises(InputError, match=message):
        lesion_sampler(items, share)
