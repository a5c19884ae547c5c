import pytest
import torch

from miram.losses.baselines import baseline_per_image, interpolate_hidden
from miram.losses.reconstruction import MultiScaleReconstructionLoss


@pytest.mark.parametrize("dims", [2, 3])
def test_visible_pixels_stay_and_a_constant_is_filled_exactly(dims):
    image = torch.full((2, 1, *[16] * dims), 3.0)
    visible = torch.zeros_like(image)
    visible[:, :, :4] = 1
    torch.testing.assert_close(interpolate_hidden(image * visible, visible), image)


def test_a_hole_in_a_ramp_is_filled_near_the_ramp():
    image = torch.arange(32.0).expand(32, 32)[None, None].contiguous()
    visible = torch.ones_like(image)
    visible[..., 8:16, 8:16] = 0
    filled = interpolate_hidden(image * visible, visible)
    assert torch.equal(filled[visible > 0], image[visible > 0])
    # the ramp spans 8 gray levels across the hole; predicting the hole's mean errs by 2 on average
    assert (filled - image).abs()[visible == 0].mean() < 2


def test_nothing_visible_gives_finite_numbers():
    assert interpolate_hidden(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("more", [{}, {"statistics_weight": 0.5, "gradient_weight": 1}])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_mean_baseline_is_the_share_of_variance_within_patches(normalize, more):
    loss_function = MultiScaleReconstructionLoss(
        (16, 16), (8, 8), [1], normalize_targets=normalize, patch_std_floor=1e-3, **more
    )
    label = 2 * torch.randn(3, 1, 16, 16) + 5
    mask = torch.ones(3, 4, dtype=torch.bool)
    losses = baseline_per_image(loss_function, label, [mask])
    patches = loss_function.split(loss_function.targets(label)[0])[0]
    expected = patches.var(-1, unbiased=False).mean(1)
    torch.testing.assert_close(losses["mean"][:, 0], expected, rtol=1e-4, atol=1e-4)


def test_interpolation_beats_the_mean_on_a_smooth_image():
    loss_function = MultiScaleReconstructionLoss((32, 32), (4, 4), [1], normalize_targets=False)
    ramp = torch.linspace(-2, 2, 32).expand(1, 1, 32, 32)
    mask = torch.tensor([False, True] * 3 + [False] * 2).repeat(8)[None]  # every hidden patch lies between visible ones
    losses = baseline_per_image(loss_function, ramp, [mask])
    assert losses["interpolation"].item() < losses["mean"].item()
