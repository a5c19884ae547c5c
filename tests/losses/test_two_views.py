import torch

from miram.losses.two_views import TwoViewLoss


def test_the_loss_is_that_of_the_paper():
    first, second = torch.randn(16, 5, dtype=torch.float64), torch.randn(16, 5, dtype=torch.float64)
    a, b = ((view - view.mean(0)) / view.std(0) for view in (first, second))
    correlation = a.T @ b / 16
    diagonal = correlation.diagonal()
    expected = (1 - diagonal).square().sum() + 0.01 * (correlation.square().sum() - diagonal.square().sum())
    found = TwoViewLoss(redundancy_weight=0.01)((first, second), torch.empty(0))
    # the loss is computed in single precision, and MONAI adds 1e-6 to deviations of about 1
    torch.testing.assert_close(found["loss"].double(), expected, rtol=1e-5, atol=0)
    assert found["loss"] == found["loss_barlow_twins"]


def test_every_image_gets_the_loss_of_its_batch():
    output = torch.randn(8, 5), torch.randn(8, 5)
    loss, label = TwoViewLoss(), torch.empty(4, 1, 2, 2)  # another process has the other half of the images
    assert torch.equal(loss.per_image(output, label), loss(output, label)["loss"].expand(4, 1))


def test_agreeing_views_cost_less_than_different_ones():
    view, other = torch.randn(64, 5), torch.randn(64, 5)
    loss = TwoViewLoss()
    assert loss((view, view), view)["loss"] < 0.1 * loss((view, other), view)["loss"]
