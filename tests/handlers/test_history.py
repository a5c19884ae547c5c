import threading

import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events

from miram.errors import InputError
from miram.handlers.history import HistoryHandler, describe_row


def make(tmp_path, losses, start_epoch=0, validate_every=2):
    """A trainer whose losses are given, and an evaluator that runs every second epoch."""
    values = iter(losses)
    trainer = Engine(lambda engine, batch: [{"loss": torch.tensor(next(values)), "loss_1x": torch.tensor(0.5)}])
    evaluator = Engine(lambda engine, batch: None)
    evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(val_loss_1x=0.25))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=validate_every), lambda _: evaluator.run([0]))
    if start_epoch:

        def resume(engine):
            engine.state.epoch, engine.state.iteration = start_epoch, 2 * start_epoch

        trainer.add_event_handler(Events.STARTED, resume)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    HistoryHandler(tmp_path, optimizer, evaluator, 8, lambda: {"val_mean_1x": 0.9}).attach(trainer)
    return trainer


def test_a_row_an_epoch_with_means_and_validation_where_there_was_one(tmp_path):
    make(tmp_path, [1.0, 3.0, 2.0, 2.0]).run([0, 0], max_epochs=2)
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table.columns[:5]) == ["epoch", "iteration", "train_loss", "train_loss_1x", "val_loss_1x"]
    assert table["train_loss"].tolist() == [2.0, 2.0]
    assert table["val_loss_1x"].isna().tolist() == [True, False]
    assert table["val_mean_1x"].tolist() == [0.9, 0.9]
    assert table["learning_rate"].tolist() == [0.01, 0.01]
    assert (table["images_per_second"] > 0).all()
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_curves_are_drawn_after_validations_and_the_last_epoch_only(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("miram.handlers.history.plot_history", lambda table, path: drawn.append(len(table)))
    make(tmp_path, [1.0] * 5).run([0], max_epochs=5)
    assert drawn == [2, 4, 5]


def test_training_goes_on_while_the_curves_are_drawn_and_waits_at_its_end(tmp_path, monkeypatch):
    next_epoch, drawn = threading.Event(), []

    def draw(table, path):
        # the first drawing ends only when the next epoch has begun
        drawn.append((len(table), len(table) == 4 or next_epoch.wait(timeout=60)))

    monkeypatch.setattr("miram.handlers.history.plot_history", draw)
    trainer = make(tmp_path, [1.0] * 4)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda _: next_epoch.set())
    trainer.run([0], max_epochs=4)
    assert drawn == [(2, True), (4, True)]


def test_an_error_of_drawing_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("miram.handlers.history.plot_history", lambda table, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(tmp_path, [1.0] * 2).run([0], max_epochs=2)


def test_a_resumed_run_keeps_the_rows_before_and_repeats_none(tmp_path):
    make(tmp_path, [1.0] * 6).run([0, 0], max_epochs=3)
    make(tmp_path, [2.0] * 4, start_epoch=2).run([0, 0], max_epochs=4)  # the checkpoint was of epoch 2
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["train_loss"].tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "epoch\nx\n"])
def test_a_damaged_table_is_named_with_the_remedy(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=r"history\.csv cannot be read .*; delete it to continue"):
        make(tmp_path, [1.0] * 2, start_epoch=1).run([0, 0], max_epochs=2)


def test_a_fresh_run_forgets_old_rows(tmp_path):
    make(tmp_path, [1.0] * 4).run([0, 0], max_epochs=2)
    make(tmp_path, [2.0] * 2).run([0, 0], max_epochs=1)
    assert pd.read_csv(tmp_path / "history.csv")["train_loss"].tolist() == [2]


def test_losses_that_are_not_finite_are_left_out_of_the_mean(tmp_path):
    make(tmp_path, [1.0, 1.0, 3.0, float("nan")]).run([0, 0], max_epochs=2)
    assert pd.read_csv(tmp_path / "history.csv")["train_loss"].tolist() == [1.0, 3.0]


def test_the_mean_of_an_epoch_goes_on_where_a_checkpoint_left_it(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    first = HistoryHandler(tmp_path, optimizer)
    engine = Engine(lambda engine, batch: [{"loss": torch.tensor(1.0)}])
    first.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: states.append(first.state_dict()))
    states = []
    engine.run([0, 0, 0])
    second = HistoryHandler(tmp_path, optimizer)
    second.load_state_dict(states[0])
    second.seconds = 100.0
    again = Engine(lambda engine, batch: [{"loss": torch.tensor(4.0)}])
    second.attach(again)
    again.run([0])
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["train_loss"].tolist() == [2.0]
    assert table["seconds"][0] >= 100


def make_monitored(tmp_path, epochs, start_epoch=0):
    """A trainer that has the metric "rank" after every second epoch."""
    trainer = make(tmp_path, [1.0] * 2 * epochs, start_epoch)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: e.state.metrics.clear())
    handlers = trainer._event_handlers[Events.EPOCH_COMPLETED]
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda e: e.state.metrics.update(rank=e.state.epoch))
    handlers.insert(0, handlers.pop())  # before the history
    return trainer


def test_metrics_of_the_trainer_are_columns_that_a_resumed_run_keeps(tmp_path):
    make_monitored(tmp_path, 3).run([0, 0], max_epochs=3)
    make_monitored(tmp_path, 2, start_epoch=3).run([0, 0], max_epochs=5)
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["rank"].fillna(0).tolist() == [0, 2, 0, 4, 0]
    assert list(table.columns).index("rank") == list(table.columns).index("val_mean_1x") + 1


def test_an_epoch_is_one_line():
    row = {
        "epoch": 3,
        "train_loss": 0.5,
        "val_loss": None,
        "learning_rate": 1e-3,
        "images_per_second": 12.3,
        "seconds": 4,
    }
    assert describe_row(row, 9) == "epoch 3/9: train_loss 0.5000; learning rate 1.00e-03; 12 images/s, 4.0 s"
