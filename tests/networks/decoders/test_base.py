"""What all decoders share: grids and masks of a scale."""

import pytest
import torch

from miram.networks.decoders.base import interpolate_tokens, scale_mask


def test_interpolation_keeps_a_linear_ramp():
    ramp = torch.arange(4.0).repeat_interleave(4)[None, :, None]  # value = row of a 4 x 4 grid
    fine = interpolate_tokens(ramp, (4, 4), (8, 8)).view(8, 8)
    torch.testing.assert_close(fine[1:-1, 0], torch.arange(0.25, 3, 0.5))  # centres of half-size cells
    assert torch.equal(interpolate_tokens(ramp, (4, 4), (4, 4)), ramp)


def test_a_fine_token_is_hidden_with_the_patch_it_lies_in():
    mask = torch.tensor([[True, False, False, True]])
    fine = scale_mask(mask, (2, 2), (4, 4)).view(4, 4)
    assert torch.equal(fine, mask.view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize(
    ("target", "hidden"), [((1, 1), [False]), ((3, 3), [True, False, False] + [False] * 5 + [True])]
)
def test_a_token_over_several_patches_is_hidden_only_if_all_are(target, hidden):
    mask = torch.tensor([[True, False, False, True]])
    assert scale_mask(mask, (2, 2), target)[0].tolist() == hidden


def test_a_coarse_token_over_hidden_patches_only_is_hidden():
    assert scale_mask(torch.ones(1, 8, dtype=torch.bool), (2, 2, 2), (1, 1, 1)).item() is True
