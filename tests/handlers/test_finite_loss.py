import pytest
import torch
from ignite.engine import Engine, Events

from miram.errors import InputError
from miram.handlers.finite_loss import FiniteLossHandler

NAN = float("nan")


class Run:
    """One batch of two items per loss, one step per `group` batches; skipped if one of its losses is not finite."""

    def __init__(self, losses, interval=20, policy="stop", group=1, bad_gradients=()):
        self.ended = []
        self.group, self.bad_gradients = group, bad_gradients
        self.engine = Engine(self.step)
        self.handler = FiniteLossHandler([{"image": f"crop_{n}.png"} for n in range(2 * len(losses))], policy, interval)
        self.handler.attach(self.engine)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.ended.append(engine.state.epoch))
        items = [torch.tensor([2 * i, 2 * i + 1]) for i in range(len(losses))]
        self.batches = [{"loss": torch.tensor(loss), "index": item} for loss, item in zip(losses, items, strict=True)]
        self.faults = torch.zeros(())

    def step(self, engine, batch):
        self.faults = torch.maximum(self.faults, (~torch.isfinite(batch["loss"])).float())
        last = engine.state.iteration % self.group == 0 or engine.state.iteration == engine.state.epoch_length
        if engine.state.iteration in self.bad_gradients:
            self.faults = torch.ones(())
        engine.state.skipped = self.faults if last else None
        if last:
            self.faults = torch.zeros(())
        return [{"loss": batch["loss"]}]

    def run(self):
        self.engine.run(self.batches)
        return self


def test_finite_losses_pass():
    run = Run([1.0, 2.0, 3.0], interval=2).run()
    assert run.ended == [1]
    assert run.engine.state.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_the_items_of_the_first_bad_batch_are_named(bad):
    run = Run([1.0, bad, NAN, 1.0])
    with pytest.raises(InputError, match=rf"training loss of iteration 2 is {bad}.*images: crop_2\.png, crop_3\.png\."):
        run.run()
    assert run.ended == []  # nothing is validated or written


@pytest.mark.parametrize(("interval", "iterations"), [(1, 2), (3, 3), (20, 5)])
def test_the_run_stops_at_the_next_look(interval, iterations):
    run = Run([1.0, NAN, NAN, NAN, NAN], interval)
    with pytest.raises(InputError, match="iteration 2 is nan"):
        run.run()
    assert run.engine.state.iteration == iterations


def test_a_run_that_skips_goes_on_warns_and_counts(caplog):
    run = Run([1.0, NAN, 1.0, NAN, 1.0], interval=2, policy="skip").run()
    assert run.engine.state.metrics["skipped_steps"] == 2
    assert caplog.text.count("crop_2.png, crop_3.png") == 1
    assert caplog.text.count("crop_6.png, crop_7.png") == 1


def test_an_epoch_without_a_good_step_ends_a_run_that_skips():
    run = Run([NAN, NAN], policy="skip")
    with pytest.raises(InputError, match="no step of epoch 1 had a finite loss"):
        run.run()


def test_a_bad_batch_of_a_group_is_named_also_when_a_look_comes_within_the_group():
    run = Run([1.0, 1.0, NAN, 1.0], interval=3, group=2)
    with pytest.raises(InputError, match=r"1 step\(s\).*iteration 3 is nan.*crop_4\.png"):
        run.run()


def test_a_gradient_that_is_not_finite_is_said_to_be_one():
    run = Run([1.0, 2.5, 1.0], bad_gradients=[2])
    with pytest.raises(
        InputError, match=r"gradient of iteration 2 is not finite, with finite losses.*: crop_2\.png, crop_3\.png\."
    ):
        run.run()


def test_the_process_that_had_the_bad_loss_names_it(monkeypatch):
    """Gradients are shared: in the others they are not finite either, with good images."""
    bad, own = Run([1.0, NAN]), Run([1.0, 2.0], bad_gradients=[2])
    bad.handler.batches = [(n, b["loss"], torch.ones(()), b["index"]) for n, b in enumerate(bad.batches, 1)]
    other = bad.handler._own_fault()
    monkeypatch.setattr("miram.handlers.finite_loss.gather_objects", lambda value: [value, other])
    with pytest.raises(InputError, match=r"training loss of iteration 2 is nan.*crop_2\.png"):
        own.run()


def test_counts_go_on_where_a_checkpoint_left_them():
    first = Run([1.0, NAN, 1.0, 1.0], policy="skip")
    first.engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=3), lambda e: states.append(first.handler.state_dict())
    )
    states = []
    first.run()
    assert states == [{"steps": 3, "skipped": 1}]
    second = Run([NAN, 1.0], policy="skip")
    second.handler.load_state_dict(states[0])
    assert second.run().engine.state.metrics["skipped_steps"] == 2


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="non_finite must be one of stop, skip, got 'ignore'"):
        FiniteLossHandler([], "ignore")
