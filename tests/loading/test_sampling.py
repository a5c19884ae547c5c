import logging

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from miram.errors import InputError
from miram.loading.sampling import BalancedSampler, epochs_for, fitting_batch_size, make_training_loader, sample_weights
from miram.loading.seeded import SeededDataset


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
    assert draws(0, 1) != [(1, index) for _, index in draws(0, 2)]
    assert draws(0, 1) != draws(1, 1)
    assert {epoch for epoch, _ in draws(0, 3)} == {3}


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
