import pytest
import torch
from ignite.engine import Engine, Events

from miram.errors import InputError
from miram.handlers.finite_loss import FiniteLossHandler

NAN = float("nan")


def run(losses, interval):
    """One batch of two items a loss; how many iterations there were, and whether the epoch ended."""
    engine = Engine(lambda engine, batch: [{"loss": batch["loss"]}])
    ended = []
    FiniteLossHandler(lambda index: f"crop_{index}.png", interval).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: ended.append(engine.state.epoch))
    batches = [{"loss": torch.tensor(loss), "index": torch.tensor([2 * i, 2 * i + 1])} for i, loss in enumerate(losses)]
    try:
        engine.run(batches)
    finally:
        run.iterations, run.ended = engine.state.iteration, ended


def test_finite_losses_pass():
    run([1.0, 2.0, 3.0], interval=2)
    assert run.ended == [1]


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_the_items_of_the_first_bad_batch_are_named(bad):
    with pytest.raises(InputError, match=rf"iteration 2 is {bad};.*images: crop_2\.png, crop_3\.png\."):
        run([1.0, bad, NAN, 1.0], interval=20)
    assert run.ended == []  # nothing is validated or written


@pytest.mark.parametrize(("interval", "iterations"), [(1, 2), (3, 3), (20, 5)])
def test_the_run_stops_at_the_next_look(interval, iterations):
    with pytest.raises(InputError, match="iteration 2 is nan"):
        run([1.0, NAN, NAN, NAN, NAN], interval)
    assert run.iterations == iterations
