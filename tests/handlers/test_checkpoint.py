from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from miram.errors import InputError
from miram.handlers.checkpoint import CheckpointHandler, check_same_network


def make(path, width=3, seed=0, resume=True, interval=1):
    """A trainer of a small network with stochastic parts, and its checkpoint."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(width, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def step(engine, batch):
        optimizer.zero_grad()
        loss = network(torch.full((2, width), float(engine.state.iteration))).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss.item()

    engine = Engine(step)
    engine.state.best_metric, engine.state.best_metric_epoch = -1, -1
    handler = CheckpointHandler(
        path, network, optimizer, scheduler, torch.amp.GradScaler("cpu", enabled=False), resume, interval
    )
    handler.attach(engine)
    return engine, handler, network


def run(engine, epochs):
    engine.run([0, 0], max_epochs=epochs)
    return engine


def test_a_continued_run_ends_with_the_same_bits_as_an_uninterrupted_one(tmp_path):
    engine, _, whole = make(tmp_path / "whole.pt")
    run(engine, 4)
    first, _, _ = make(tmp_path / "cut.pt")
    first.add_event_handler(Events.EPOCH_STARTED(once=3), first.terminate)
    run(first, 4)
    second, _, resumed = make(tmp_path / "cut.pt", seed=99)
    losses = []
    second.add_event_handler(Events.EPOCH_STARTED, lambda e: losses.append(e.state.epoch))
    run(second, 4)
    assert losses == [3, 4]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_the_schedule_is_the_configs_and_its_place_the_checkpoints(tmp_path):
    engine, _, _ = make(tmp_path / "c.pt")
    run(engine, 2)
    again, restored, _ = make(tmp_path / "c.pt")
    restored.scheduler.base_lrs = [1.0]
    run(again, 3)
    assert restored.scheduler.last_epoch == 6
    assert restored.scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(1 / 7)


def test_resume_false_starts_afresh_and_says_so(tmp_path, caplog):
    run(make(tmp_path / "c.pt")[0], 2)
    engine, _, _ = make(tmp_path / "c.pt", resume=False)
    with caplog.at_level("INFO"):
        run(engine, 1)
    assert "starting afresh" in caplog.text
    assert torch.load(tmp_path / "c.pt", weights_only=True)["epoch"] == 1


def test_a_finished_run_does_nothing_more(tmp_path, caplog):
    run(make(tmp_path / "c.pt")[0], 2)
    before = (tmp_path / "c.pt").stat().st_mtime_ns
    engine, _, _ = make(tmp_path / "c.pt")
    with caplog.at_level("INFO"):
        run(engine, 2)
    assert "after epoch 2 of 2" in caplog.text
    assert (tmp_path / "c.pt").stat().st_mtime_ns == before


def test_only_every_interval_and_the_last_epoch_are_saved(tmp_path):
    engine, _, _ = make(tmp_path / "c.pt", interval=2)
    saved = []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: saved.append((tmp_path / "c.pt").exists()))
    run(engine, 3)
    assert saved == [False, False, True]
    assert torch.load(tmp_path / "c.pt", weights_only=True)["epoch"] == 3


def test_a_checkpoint_of_another_architecture_is_refused_with_the_difference(tmp_path):
    run(make(tmp_path / "c.pt")[0], 1)
    with pytest.raises(InputError, match=r"another architecture: 1 of 4.*0\.weight \(\(8, 3\) saved, \(8, 5\) here\)"):
        run(make(tmp_path / "c.pt", width=5)[0], 1)
    with pytest.raises(InputError, match="another architecture"):
        check_same_network(tmp_path, nn.Linear(1, 1), {})


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, content):
    if content is None:
        torch.save({"model": {}}, tmp_path / "c.pt")
    else:
        (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.pt"):
        make(tmp_path / "c.pt")[1].load(SimpleNamespace(state=None))
