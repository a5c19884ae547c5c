import pytest
import torch
from ignite.engine import Engine

from miram.engines.pretraining import PreparePretrainingBatch, PrepareTwoViews, baseline_losses, validation_metrics
from miram.errors import InputError
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.masking import RandomMasking
from miram.transforms.augment import RandomView

CPU = torch.device("cpu")


@pytest.fixture
def loss_function():
    return MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2], weights=[1, 3])


def batch_of(size, first=0, epoch=2):
    return {
        "label": torch.randn(size, 1, 64, 64),
        "index": torch.arange(first, first + size),
        "epoch": torch.full((size,), epoch),
    }


def test_the_image_is_reduced_from_the_label_and_masks_follow_the_samples():
    prepare = PreparePretrainingBatch(RandomMasking(0.75, seed=1), (32, 32), 16)
    batch = batch_of(3, first=5)
    image, label, (keep,), arguments = prepare(batch, CPU)
    assert torch.equal(image, downsample(batch["label"], (32, 32)))
    assert torch.equal(label, batch["label"])
    assert torch.equal(keep, RandomMasking(0.75, seed=1)(2, torch.tensor([5, 6, 7]), 16))
    assert arguments == {}


def test_each_view_of_an_image_has_its_pixels():
    prepare = PreparePretrainingBatch(RandomMasking(0.75, views=2), (32, 32), 16)
    batch = batch_of(3)
    image, label, (keep,), _ = prepare(batch, CPU)
    assert torch.equal(label, torch.cat([batch["label"]] * 2))
    assert torch.equal(image, downsample(label, (32, 32)))
    assert torch.equal(keep, RandomMasking(0.75, views=2)(2, torch.arange(3), 16))


def test_two_different_views_are_made_of_each_image():
    prepare = PrepareTwoViews(RandomView(seed=1), (32, 32))
    batch = batch_of(3, first=5)
    first, label, (second,), arguments = prepare(batch, CPU)
    assert torch.equal(label, batch["label"])
    assert first.shape == second.shape == (3, 1, 32, 32)
    assert not torch.allclose(first, second)
    # no image's second view is drawn like another one's first
    drawn = [RandomView(seed=1)(label[:1], 2, torch.tensor([number])) for number in range(10, 16)]
    assert len(torch.stack(drawn).flatten(1).unique(dim=0)) == 6
    torch.testing.assert_close(first[0], downsample(drawn[0], (32, 32))[0])
    torch.testing.assert_close(second[0], downsample(drawn[1], (32, 32))[0])
    assert arguments == {}


def test_a_batch_of_one_image_cannot_be_compared():
    with pytest.raises(InputError, match="batch_size"):
        PrepareTwoViews(RandomView(), (32, 32))(batch_of(1), CPU)


def test_validation_means_are_over_images_whatever_the_batches(loss_function):
    per_image = torch.rand(10, 2)
    engine = Engine(lambda _, batch: {"per_image": batch})
    for name, metric in validation_metrics(loss_function, CPU).items():
        metric.attach(engine, name)
    metrics = engine.run([per_image[:4], per_image[4:8], per_image[8:]]).metrics
    mean = per_image.mean(0)
    assert metrics["val_loss_1x"] == pytest.approx(mean[0].item())
    assert metrics["val_loss_2x"] == pytest.approx(mean[1].item())
    assert metrics["val_loss"] == pytest.approx((mean[0] + 3 * mean[1]).item())


def test_baselines_are_means_over_all_images(tiny_miram, loss_function):
    prepare = PreparePretrainingBatch(RandomMasking(), (32, 32), 16)
    batches = [batch_of(3), batch_of(1, first=3)]
    together = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    losses = baseline_losses(batches, prepare, tiny_miram, loss_function, CPU)
    assert set(losses) == {f"val_{kind}_{scale}" for kind in ("mean", "interpolation") for scale in ("1x", "2x")}
    assert losses == pytest.approx(baseline_losses([together], prepare, tiny_miram, loss_function, CPU), rel=1e-5)
    assert losses["val_mean_2x"] == pytest.approx(63 / 64, abs=0.01)  # white noise, unbiased deviation


def test_without_images_there_are_no_baselines(tiny_miram, loss_function):
    prepare = PreparePretrainingBatch(RandomMasking(), (32, 32), 16)
    assert baseline_losses([], prepare, tiny_miram, loss_function, CPU) == {}
