import pytest
import torch

from miram.losses.reconstruction import (
    MultiScaleReconstructionLoss,
    downsample,
    masked_mean_squared_error,
)
from miram.losses.targets import patch_statistics
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


EXTRAS = {"statistics_weight": 0.5, "gradient_weight": 0.25}


def test_without_extra_targets_the_loss_is_that_of_normalised_pixels():
    function, label = loss_of(weights=[1, 0.5]), torch.randn(2, 1, 32, 32)
    output = output_of(function, label, torch.tensor(True))
    assert (function.extra_outputs, function.names) == (0, ["loss_1x", "loss_2x"])
    patches = [patchify(downsample(label, size), (8, 8)) for size in ((16, 16), (32, 32))]
    errors = [((0 - (p - p.mean(-1, keepdim=True)) / (p.var(-1, keepdim=True) + 0.04**2).sqrt()) ** 2) for p in patches]
    expected = sum(weight * error.mean() for weight, error in zip((1, 0.5), errors, strict=True))
    torch.testing.assert_close(function(output, label)["loss"], expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_mean_contrast_and_gradients_are_predicted_beside_pixels_at_every_scale(dims):
    function = MultiScaleReconstructionLoss([16] * dims, [8] * dims, [1, 2], weights=[1, 2], **EXTRAS)
    label = torch.randn(2, 1, *[32] * dims)
    targets = function.targets(label)
    assert function.extra_outputs == 2 + {2: 8, 3: 13}[dims]
    assert [t.shape[-1] for t in targets] == [8**dims + function.extra_outputs] * 2
    off_by_one = {
        "predictions": [t + 1 for t in targets],
        "masks": [torch.ones(t.shape[:2], dtype=torch.bool) for t in targets],
        "places": [None, None],
    }
    losses = function(off_by_one, label)
    names = [f"loss{kind}_{scale}x" for kind in ("", "_statistics", "_gradients") for scale in (1, 2)]
    assert list(losses) == ["loss", *names]
    assert losses["loss"].item() == pytest.approx((1 + 2) * (1 + 0.5 + 0.25), rel=1e-5)


def test_the_pixels_cost_the_same_with_extra_targets():
    label = torch.randn(2, 1, 32, 32)
    plain, more = loss_of(), loss_of(**EXTRAS)
    losses = [function(output_of(function, label, torch.tensor(True)), label) for function in (plain, more)]
    assert torch.equal(losses[0]["loss_2x"], losses[1]["loss_2x"])
    assert losses[1]["loss_gradients_2x"] > 0


def test_extra_targets_at_given_places_are_those_among_all():
    function, label = loss_of(**EXTRAS), torch.randn(2, 1, 32, 32)
    places = torch.tensor([[3, 0, 9], [15, 2, 4]])
    every, some = function.targets(label)[1], function.targets(label, [None, places])[1]
    assert torch.equal(some, every.gather(1, places[..., None].expand(-1, -1, every.shape[-1])))


def test_a_network_with_other_outputs_is_refused():
    function, label = loss_of(statistics_weight=1), torch.randn(2, 1, 32, 32)
    with pytest.raises(ValueError, match="extra_outputs=2"):
        function(output_of(loss_of(), label, torch.tensor(True)), label)


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
        ({"statistics_weight": -1}, "statistics_weight"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        loss_of(**arguments)
