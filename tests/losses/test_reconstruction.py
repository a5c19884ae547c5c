import pytest
import torch

from miram.losses.reconstruction import (
    MultiScaleReconstructionLoss,
    downsample,
    masked_mean_squared_error,
    patch_statistics,
)
from miram.networks.patches import patchify


def loss_of(**arguments):
    return MultiScaleReconstructionLoss((16, 16), (8, 8), [1, 2], **arguments)


def output_of(function, label, hidden):
    targets = function.targets(label)
    masks = [hidden.expand(t.shape[1]).expand(t.shape[:2]) for t in targets]
    return {"predictions": [torch.zeros_like(t) for t in targets], "masks": masks, "places": [None, None]}


def test_only_masked_patches_count():
    prediction, target = torch.zeros(1, 4, 2), torch.tensor([[[1.0, 1], [2, 2], [3, 3], [4, 4]]])
    mask = torch.tensor([[False, True, False, True]])
    assert masked_mean_squared_error(prediction, target, mask).item() == (4 + 16) / 2
    assert masked_mean_squared_error(prediction, target, torch.zeros(1, 4, dtype=torch.bool)).item() == 0


def test_the_total_is_the_weighted_sum_of_the_scales():
    function = loss_of(weights=[1, 0.5])
    label = torch.randn(2, 1, 32, 32)
    losses = function(output_of(function, label, torch.tensor(True)), label)
    assert set(losses) == {"loss", "loss_1x", "loss_2x"}
    torch.testing.assert_close(losses["loss"], losses["loss_1x"] + 0.5 * losses["loss_2x"])


def test_predicting_the_mean_of_textured_patches_costs_one():
    """
    Normalised targets have unit variance: (P - 1) / P of it with the unbiased deviation, and the floor takes a little.
    """
    function = loss_of(patch_std_floor=1e-3)
    label = torch.randn(2, 1, 32, 32)
    losses = function(output_of(function, label, torch.tensor(True)), label)
    assert losses["loss_2x"].item() == pytest.approx(63 / 64, abs=1e-4)


def test_patches_at_given_places_cost_what_they_cost_among_all():
    function, label = loss_of(), torch.randn(2, 1, 32, 32)
    places = torch.tensor([[3, 0, 9], [15, 2, 4]])
    hidden = torch.zeros(2, 16, dtype=torch.bool).scatter(1, places, True)
    prediction = torch.randn(2, 16, 64)
    coarse = (torch.zeros(2, 4, 64), torch.ones(2, 4, dtype=torch.bool))
    every = {"predictions": [coarse[0], prediction], "masks": [coarse[1], hidden], "places": [None, None]}
    picked = prediction.gather(1, places[..., None].expand(-1, -1, 64))
    some = {
        "predictions": [coarse[0], picked],
        "masks": [coarse[1], hidden.gather(1, places)],
        "places": [None, places],
    }
    torch.testing.assert_close(function.per_image(some, label), function.per_image(every, label))


def test_targets_of_smaller_scales_are_area_averages():
    function = loss_of(normalize_targets=False)
    label = torch.randn(1, 1, 32, 32)
    coarse, fine = function.targets(label)
    assert torch.equal(fine, patchify(label, (8, 8)))
    mean = label.view(1, 1, 16, 2, 16, 2).mean(dim=(3, 5))
    torch.testing.assert_close(coarse, patchify(mean, (8, 8)))


def test_the_floor_keeps_noise_in_air_from_becoming_a_target():
    air = 0.01 * torch.randn(1, 4, 64)  # a gray level of noise: 1 / 255 of the range, in units of 0.25
    tissue = torch.randn(1, 4, 64)
    function = loss_of(patch_std_floor=0.04)
    assert function.normalize(air).square().mean() < 0.1
    assert function.normalize(tissue).square().mean() > 0.95
    without = loss_of(patch_std_floor=1e-6)
    assert without.normalize(air).square().mean() > 0.95


def test_constant_patches_give_zero_targets_and_finite_gradients():
    function = loss_of()
    label = torch.ones(1, 1, 32, 32, requires_grad=True)
    losses = function(output_of(function, label, torch.tensor(True)), label)
    losses["loss"].backward()
    assert losses["loss"].item() == 0
    assert label.grad.isfinite().all()


def test_statistics_are_those_of_each_patch():
    patches = torch.randn(2, 3, 50)
    mean, std = patch_statistics(patches, 0.1)
    torch.testing.assert_close(mean, patches.mean(-1, keepdim=True))
    torch.testing.assert_close(std, (patches.var(-1, keepdim=True) + 0.01).sqrt())


@pytest.mark.parametrize("dims", [2, 3])
def test_downsampling_averages_and_never_enlarges(dims):
    image = torch.randn(1, 1, *[8] * dims)
    assert downsample(image, [4] * dims).mean().item() == pytest.approx(image.mean().item(), abs=1e-6)
    assert downsample(image, [8] * dims) is image
    with pytest.raises(ValueError, match="cannot be reduced"):
        downsample(image, [16] * dims)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1]}, "weight"),
        ({"weights": [1, -1]}, "weight"),
        ({"weights": [0, 0]}, "weight"),
        ({"patch_std_floor": 0}, "floor"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        loss_of(**arguments)
