import pytest
import torch
from ignite.engine import Engine

from miram.engines.pretraining import PreparePretrainingBatch
from miram.handlers.draw_reconstructions import ReconstructionHandler
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking


@pytest.mark.parametrize(("interval", "expected"), [(2, ["0002", "0003"]), (5, ["0003"])])
def test_pictures_come_at_intervals_and_at_the_end(tiny_miram, tmp_path, interval, expected):
    dataset = [{"label": torch.randn(1, 64, 64), "index": i, "epoch": 0} for i in range(3)]
    prepare = PreparePretrainingBatch(RandomMasking(), (32, 32), 16)
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1, 2])
    engine = Engine(lambda engine, batch: None)
    ReconstructionHandler(
        tmp_path, tiny_miram, dataset, prepare, loss_function, torch.device("cpu"), num_images=9, interval=interval
    ).attach(engine)
    engine.run([0], max_epochs=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"reconstructions_{epoch}.png" for epoch in expected]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
