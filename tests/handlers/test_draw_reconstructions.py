import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from miram.engines.pretraining import PreparePretrainingBatch
from miram.handlers.draw_reconstructions import ReconstructionHandler
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking


@pytest.fixture
def draw(tiny_miram, tmp_path):
    """Train for three epochs; returns the pictures."""

    def draw(masking, **options):
        dataset = [{"label": torch.randn(1, 64, 64), "index": i, "epoch": 0} for i in range(3)]
        prepare = PreparePretrainingBatch(masking, (32, 32), 16)
        loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])
        engine = Engine(lambda engine, batch: None)
        handler = ReconstructionHandler(
            tmp_path, tiny_miram, dataset, prepare, loss_function, torch.device("cpu"), **options
        )
        handler.attach(engine)
        engine.run([0], max_epochs=3)
        return sorted(tmp_path.iterdir())

    return draw


@pytest.mark.parametrize(("interval", "expected"), [(2, ["0002", "0003"]), (5, ["0003"])])
def test_pictures_come_at_intervals_and_at_the_end(draw, interval, expected):
    paths = draw(RandomMasking(), num_images=9, interval=interval)
    assert [path.name for path in paths] == [f"reconstructions_{epoch}.png" for epoch in expected]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_an_image_that_a_step_shows_twice_is_drawn_once(draw):
    sizes = []
    for views in (1, 2):
        (path,) = draw(RandomMasking(views=views), num_images=3, interval=5)
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes[0] == sizes[1]
