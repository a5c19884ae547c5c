import pytest
import torch

from miram.errors import InputError
from miram.masking import RandomMasking, hidden_mask


@pytest.mark.parametrize(("ratio", "tokens", "visible"), [(0.75, 196, 49), (0.8, 100, 20), (0.9, 50, 5), (0.5, 8, 4)])
def test_every_image_keeps_exactly_its_share(ratio, tokens, visible):
    keep = RandomMasking(ratio)(epoch=0, index=torch.arange(64), num_tokens=tokens)
    assert keep.shape == (64, visible)
    assert (keep.diff(dim=1) > 0).all()  # ascending, so no patch twice
    assert keep.min() >= 0
    assert keep.max() < tokens


def test_masks_depend_on_seed_epoch_and_sample_only():
    masking = RandomMasking(0.75, seed=3)
    batch = masking(epoch=5, index=torch.tensor([4, 9, 2]), num_tokens=196)
    alone = masking(epoch=5, index=torch.tensor([9]), num_tokens=196)
    assert torch.equal(batch[1], alone[0])
    assert torch.equal(batch, RandomMasking(0.75, seed=3)(5, torch.tensor([4, 9, 2]), 196))
    assert not torch.equal(batch, masking(6, torch.tensor([4, 9, 2]), 196))
    assert not torch.equal(batch, RandomMasking(0.75, seed=4)(5, torch.tensor([4, 9, 2]), 196))
    assert not torch.equal(batch[0], batch[1])


def test_patches_are_kept_uniformly_and_independently():
    images, tokens, ratio = 20_000, 16, 0.75
    keep = RandomMasking(ratio)(0, torch.arange(images), tokens)
    kept = ~hidden_mask(keep, tokens)
    # binomial: deviation of a rate is sqrt(p q / n) = 0.0031; 5 deviations for 16 rates
    torch.testing.assert_close(kept.float().mean(0), torch.full((tokens,), 0.25), atol=0.0155, rtol=0)
    # two given patches of 16 are both among the 4 kept with probability (4 x 3) / (16 x 15) = 0.05
    both = (kept[:, :-1] & kept[:, 1:]).float().mean(0)
    torch.testing.assert_close(both, torch.full((tokens - 1,), 0.05), atol=0.0078, rtol=0)
    # the same patch in the same image of two epochs: independent, 1/16
    again = ~hidden_mask(RandomMasking(ratio)(1, torch.arange(images), tokens), tokens)
    assert abs((kept & again).float().mean().item() - 1 / 16) < 0.002


def test_seeds_and_epochs_of_any_size_are_taken():
    keep = RandomMasking(0.75, seed=2**63 + 5)(epoch=10**12, index=torch.tensor([2**40]), num_tokens=64)
    assert keep.shape == (1, 16)


def test_no_patch_is_visible_in_two_views_of_an_image():
    keep = RandomMasking(0.75, seed=3, views=3)(epoch=5, index=torch.tensor([4, 9]), num_tokens=16)
    assert keep.shape == (6, 4)
    seen = torch.stack([~hidden_mask(view, 16) for view in keep.chunk(3)]).sum(dim=0)
    assert seen.max() == 1
    assert seen.sum(dim=1).tolist() == [12, 12]
    assert torch.equal(keep[:2], RandomMasking(0.75, seed=3)(5, torch.tensor([4, 9]), 16))  # the first is as before
    alone = RandomMasking(0.75, seed=3, views=3)(epoch=5, index=torch.tensor([9]), num_tokens=16)
    assert torch.equal(keep[1::2], alone)


@pytest.mark.parametrize(("ratio", "views", "message"), [(0.75, 0, "mask_views must be"), (0.7, 4, "4 views .* need")])
def test_views_that_an_image_does_not_have_are_refused(ratio, views, message):
    with pytest.raises(InputError, match=message):
        RandomMasking(ratio, views=views)(0, torch.arange(2), 16)


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5, float("nan")])
def test_a_ratio_outside_the_open_interval_is_refused(ratio):
    with pytest.raises(ValueError, match="mask_ratio"):
        RandomMasking(ratio)


def test_a_ratio_that_hides_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves 4 of 4"):
        RandomMasking(0.1).num_visible(4)


def test_hidden_mask_is_true_where_not_kept():
    mask = hidden_mask(torch.tensor([[0, 2], [1, 3]]), 4)
    assert mask.tolist() == [[False, True, False, True], [True, False, True, False]]
