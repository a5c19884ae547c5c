import pytest
import torch

from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.masking import hidden_mask
from miram.visualize.reconstructions import hide, plot_panel, reconstruction_columns

KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])


@pytest.mark.parametrize("more", [{}, {"statistics_weight": 0.5, "gradient_weight": 1}])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_perfect_prediction_gives_the_target_back(normalize, more):
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2], normalize_targets=normalize, **more)
    label = torch.randn(2, 1, 64, 64)
    masks = [hidden_mask(KEEP, 16), torch.ones(2, 64, dtype=torch.bool)]
    output = {"predictions": loss_function.targets(label), "masks": masks}
    columns = reconstruction_columns(loss_function, downsample(label, (32, 32)), label, output, masks[0])
    assert list(columns)[2:] == ["reconstruction 1x", "target 1x", "reconstruction 2x", "target 2x"]
    torch.testing.assert_close(columns["reconstruction 2x"], label, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(columns["reconstruction 1x"], columns["target 1x"], atol=1e-5, rtol=1e-5)


def test_visible_patches_are_the_targets_own():
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1])
    label = torch.randn(2, 1, 32, 32)
    mask = hidden_mask(KEEP, 16)
    output = {"predictions": [torch.zeros(2, 16, 64)], "masks": [mask]}
    reconstruction = reconstruction_columns(loss_function, label, label, output, mask)["reconstruction 1x"]
    assert torch.equal(reconstruction[0, :, :8, :8], label[0, :, :8, :8])  # patch 0 is visible
    assert reconstruction[1, :, :8, :8].std() < 1e-5  # here it is hidden, and predicted as its mean


def test_hidden_pixels_are_not_a_number():
    hidden = hide(torch.ones(2, 1, 32, 32), hidden_mask(KEEP, 16), (8, 8))
    assert hidden.isnan().sum() == 2 * 12 * 64


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 1, 8, 8, 8)])
def test_panels_are_drawn_for_images_and_volumes(shape, tmp_path):
    plot_panel(
        {"input": torch.randn(shape), "masked": torch.full(shape, float("nan"))}, tmp_path / "p.png", "title", "note"
    )
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
