"""Errors of patches, separately for coarse and fine structures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from studies.benchmark.bands import band_energies, band_sums


@pytest.mark.parametrize("patch_size", [(4, 4), (4, 2, 6)])
def test_the_bands_add_up_to_the_mean_square(patch_size):
    patches = torch.randn(2, 3, int(np.prod(patch_size)) * 2)
    energies = band_energies(patches, patch_size)
    assert energies.shape == (2, 3, 2)
    torch.testing.assert_close(energies.sum(-1), patches.square().mean(-1))


def test_coarse_and_fine_detail_fall_into_different_bands():
    ramp = torch.linspace(-1, 1, 4).repeat_interleave(2)
    coarse = ramp[:, None].expand(8, 8).reshape(1, 1, 64)
    checkers = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    assert band_energies(coarse, (8, 8))[0, 0, 1] == pytest.approx(0, abs=1e-6)
    assert band_energies(checkers.reshape(1, 1, 64), (8, 8))[0, 0].tolist() == [0, 1]


def test_errors_are_those_of_hidden_patches():
    target, prediction = torch.randn(1, 4, 16), torch.zeros(1, 4, 16)
    prediction[0, 3] = 100
    mask = torch.tensor([[True, True, True, False]])
    error, mean = band_sums(prediction, target, mask, (4, 4))
    torch.testing.assert_close(error, mean)  # predicting 0 is predicting the mean
