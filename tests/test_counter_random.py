import torch

from miram.counter_random import random_bits, random_uniform


def test_numbers_depend_on_seed_epoch_and_sample_only():
    batch = random_uniform(3, 5, torch.tensor([4, 9, 2]), 6)
    assert torch.equal(batch[1], random_uniform(3, 5, torch.tensor([9]), 6)[0])
    assert torch.equal(batch[:, :4], random_uniform(3, 5, torch.tensor([4, 9, 2]), 4))
    for seed, epoch in ((4, 5), (3, 6)):
        assert not torch.equal(batch, random_uniform(seed, epoch, torch.tensor([4, 9, 2]), 6))


def test_numbers_are_uniform_and_uncorrelated():
    numbers = random_uniform(0, 1, torch.arange(20_000), 8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # 160,000 numbers: deviation of the mean 0.289 / 400 = 0.0007, of a correlation 1 / sqrt(20,000) = 0.007; 5 of them
    assert abs(numbers.mean().item() - 0.5) < 0.0036
    correlations = torch.corrcoef(numbers.T) - torch.eye(8)
    assert correlations.abs().max() < 0.036


def test_every_bit_is_set_half_of_the_time():
    bits = random_bits(0, 0, torch.arange(10_000), 1)
    rates = torch.stack([((bits >> bit) & 1).float().mean() for bit in range(64)])
    assert (rates - 0.5).abs().max() < 0.025  # deviation 0.005; 5 of them
