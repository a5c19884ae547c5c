import os
import signal
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import Compose
from torch import nn
from torch.optim import lr_scheduler as schedulers

from miram.engines.steps import TrainingStep
from miram.errors import InputError
from miram.handlers.checkpoint import CheckpointHandler
from miram.loading.seeded import SeededDataset, make_loader
from miram.optimizers import pretraining_schedule

LENGTH = 4  # iterations of an epoch


def falling(optimizer):
    return schedulers.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def sequential(optimizer):
    """A warm-up within the first epoch, then a rate that follows from the one before."""
    parts = [schedulers.LinearLR(optimizer, 0.1, total_iters=3), schedulers.ExponentialLR(optimizer, 0.8)]
    return schedulers.SequentialLR(optimizer, parts, [3])


SCHEDULES = {
    "sequential": sequential,
    "restarts": lambda optimizer: schedulers.CosineAnnealingWarmRestarts(optimizer, 2, 2),
    "recursive": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, 12),
    "one cycle, of the momentum too": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, 12),
    "steps": lambda optimizer: schedulers.MultiStepLR(optimizer, [2, 5, 9]),
}


class Run:
    """A trainer of a small network with stochastic parts, and its checkpoint."""

    def __init__(
        self,
        path,
        width=3,
        seed=0,
        resume=True,
        interval=1,
        minutes=None,
        group=1,
        length=LENGTH,
        schedule=falling,
        annealing_start=None,
        **facts,
    ):
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Linear(width, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.scheduler = schedule(self.optimizer)
        self.training = TrainingStep(accumulation_steps=group)
        self.seen: list[tuple[int, int]] = []
        self.engine = Engine(self.step)
        self.engine.state.best_metric, self.engine.state.best_metric_epoch = -1, -1
        dataset = SeededDataset([{"x": float(n)} for n in range(2 * length)], Compose([]))
        self.engine.data_loader = make_loader(dataset, 2, shuffle=True)
        self.handler = CheckpointHandler(
            path,
            self.network,
            self.optimizer,
            self.scheduler,
            self.training,
            resume,
            interval,
            minutes,
            provenance=facts,
            annealing_start=annealing_start,
        )
        self.handler.attach(self.engine)
        self.engine.add_event_handler(Events.EPOCH_STARTED, lambda e: e.data_loader.sampler.set_epoch(e.state.epoch))

    def step(self, engine, batch):
        state = engine.state
        self.seen += [(state.epoch, index) for index in batch["index"].tolist()]
        position, size = self.training._group(state.iteration, state.epoch_length)
        if position == 0:
            self.optimizer.zero_grad()
        inputs = batch["x"].float().reshape(2, 1).expand(2, self.network[0].in_features)
        self.network(inputs).square().mean().backward()
        if position == size - 1:
            self.optimizer.step()
        self.scheduler.step()

    def run(self, epochs):
        self.engine.run(self.engine.data_loader, max_epochs=epochs)
        return self

    def weights(self):
        return torch.cat([value.flatten() for value in self.network.state_dict().values()])


def stop_at(run, event, action=None, **when):
    """Stop a run by an exception, as a crash would; or do something else there."""

    def crash(engine):
        raise RuntimeError("crash")

    run.engine.add_event_handler(event(**when) if when else event, action or crash)


def content_of(path):
    return torch.load(path, weights_only=True)


def test_a_continued_run_ends_with_the_same_bits_as_an_uninterrupted_one(tmp_path):
    whole = Run(tmp_path / "whole.pt").run(4)
    first = Run(tmp_path / "cut.pt")
    stop_at(first, Events.EPOCH_STARTED, once=3)
    with pytest.raises(RuntimeError, match="crash"):
        first.run(4)
    second = Run(tmp_path / "cut.pt", seed=99).run(4)
    assert [epoch for epoch, _ in second.seen] == [3] * 8 + [4] * 8
    assert torch.equal(whole.weights(), second.weights())


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("iteration", [5, 6, 7, 11])
def test_a_run_that_died_within_an_epoch_sees_every_sample_once_and_ends_with_the_same_bits(tmp_path, iteration, group):
    """Saved after each optimizer step (minutes=0); groups of 3 and 1 batches in epochs of 4."""
    whole = Run(tmp_path / "whole.pt", group=group).run(3)
    first = Run(tmp_path / "cut.pt", minutes=0, group=group)
    stop_at(first, Events.ITERATION_STARTED, once=iteration)
    with pytest.raises(RuntimeError, match="crash"):
        first.run(3)
    saved = content_of(tmp_path / "cut.pt")
    second = Run(tmp_path / "cut.pt", seed=99, group=group).run(3)
    assert torch.equal(whole.weights(), second.weights())
    assert whole.seen[: 2 * saved["iteration"]] + second.seen == whole.seen
    assert iteration - 1 - group < saved["iteration"] < iteration


def test_within_an_epoch_nothing_is_saved_without_minutes(tmp_path):
    run = Run(tmp_path / "c.pt")
    stop_at(run, Events.ITERATION_STARTED, once=4)
    with pytest.raises(RuntimeError, match="crash"):
        run.run(1)
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("event", "when", "position"),
    [
        (Events.ITERATION_STARTED, 6, (1, 6)),  # within an epoch
        (Events.ITERATION_COMPLETED, 8, (1, 8)),  # at its last step
        (Events.EPOCH_COMPLETED, 2, (1, 8)),  # while it is concluded
        (Events.EPOCH_STARTED, 2, (1, 5)),  # between two
    ],
)
def test_a_signal_saves_the_run_first(tmp_path, caplog, number, event, when, position):
    whole = Run(tmp_path / "whole.pt").run(3)
    first = Run(tmp_path / "cut.pt", interval=9)
    before = signal.getsignal(number)
    stop_at(first, event, lambda e: os.kill(os.getpid(), number), once=when)
    with pytest.raises(SystemExit) as caught, caplog.at_level("WARNING"):
        first.run(3)
    assert caught.value.code == 128 + number
    assert "The same command continues from there" in caplog.text
    assert signal.getsignal(number) == before
    saved = content_of(tmp_path / "cut.pt")
    assert (saved["epoch"], saved["iteration"]) == position
    concluded = []
    second = Run(tmp_path / "cut.pt", seed=99)
    second.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: concluded.append(e.state.epoch))
    second.run(3)
    assert torch.equal(whole.weights(), second.weights())
    assert concluded == [2, 3]


def test_a_signal_in_the_last_moments_lets_the_run_end(tmp_path):
    run = Run(tmp_path / "c.pt")
    stop_at(run, Events.COMPLETED, lambda e: os.kill(os.getpid(), signal.SIGTERM))
    assert run.run(1).engine.state.epoch == 1


def test_an_error_gives_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run = Run(tmp_path / "c.pt")
    stop_at(run, Events.ITERATION_STARTED, once=2)
    with pytest.raises(RuntimeError, match="crash"):
        run.run(1)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_schedule_is_the_configs_and_its_place_the_checkpoints(tmp_path):
    Run(tmp_path / "c.pt").run(2)
    again = Run(tmp_path / "c.pt")
    again.scheduler.base_lrs = [1.0]
    again.run(3)
    assert again.scheduler.last_epoch == 3 * LENGTH
    assert again.optimizer.param_groups[0]["lr"] == pytest.approx(1 / (1 + 3 * LENGTH))


@pytest.mark.parametrize("iteration", [3, 4, 6, 10])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_that_follows_from_its_own_past_is_gone_on_with_bit_for_bit(tmp_path, schedule, iteration):
    whole = Run(tmp_path / "whole.pt", schedule=schedule).run(3)
    first = Run(tmp_path / "cut.pt", minutes=0, schedule=schedule)
    stop_at(first, Events.ITERATION_STARTED, once=iteration)
    with pytest.raises(RuntimeError, match="crash"):
        first.run(3)
    second = Run(tmp_path / "cut.pt", schedule=schedule).run(3)
    assert torch.equal(whole.weights(), second.weights())
    assert second.scheduler.state_dict() == whole.scheduler.state_dict()


def test_a_longer_run_has_its_own_schedule(tmp_path):
    """Total steps of the cosine, and where the second part begins, are the config's."""
    Run(tmp_path / "a.pt", schedule=lambda o: WarmupCosineSchedule(o, 2, 2 * LENGTH)).run(2)
    longer = Run(tmp_path / "a.pt", schedule=lambda o: WarmupCosineSchedule(o, 2, 4 * LENGTH)).run(3)
    assert longer.scheduler.t_total == 4 * LENGTH
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * longer.scheduler.lr_lambda(3 * LENGTH))
    assert longer.optimizer.param_groups[0]["lr"] > 0.01


def infinite(path, epochs, **arguments):
    """A run whose rate is constant but in its last epoch."""

    def make(optimizer):
        return pretraining_schedule(optimizer, "infinite", LENGTH, epochs, 0, 0, 1, 0.5, 0.01)

    return Run(path, schedule=make, annealing_start=epochs - 1, **arguments)


@pytest.mark.parametrize("interval", [1, 5])
def test_a_longer_run_goes_on_from_before_the_annealing(tmp_path, interval):
    """As if there had been no annealing; the same also if it is interrupted on its way, within an epoch."""
    whole = infinite(tmp_path / "whole.pt", 5).run(5)
    infinite(tmp_path / "c.pt", 3, interval=interval).run(3)
    assert content_of(tmp_path / "before_annealing.pt")["epoch"] == 2
    longer = infinite(tmp_path / "c.pt", 5, minutes=0, interval=interval)
    stop_at(longer, Events.ITERATION_STARTED, once=3 * LENGTH + 2)
    with pytest.raises(RuntimeError, match="crash"):
        longer.run(5)
    assert longer.seen[0][0] == 3
    again = infinite(tmp_path / "c.pt", 5)
    assert torch.equal(again.run(5).weights(), whole.weights())
    assert len(again.seen) == 2 * (5 * LENGTH - (3 * LENGTH + 1))


def test_an_interrupted_annealing_goes_on(tmp_path):
    whole = infinite(tmp_path / "whole.pt", 3).run(3)
    cut = infinite(tmp_path / "c.pt", 3, minutes=0)
    stop_at(cut, Events.ITERATION_STARTED, once=2 * LENGTH + 3)
    with pytest.raises(RuntimeError, match="crash"):
        cut.run(3)
    again = infinite(tmp_path / "c.pt", 3).run(3)
    assert len(again.seen) == 2 * 2
    assert torch.equal(again.weights(), whole.weights())


def test_an_annealed_run_without_the_checkpoint_from_before_cannot_be_made_longer(tmp_path):
    infinite(tmp_path / "c.pt", 3).run(3)
    (tmp_path / "before_annealing.pt").unlink()
    with pytest.raises(InputError, match=r"c\.pt is annealed, and there is no .*before_annealing\.pt"):
        infinite(tmp_path / "c.pt", 5).run(5)


def test_a_schedule_of_several_goes_on_in_epochs_of_another_length_and_one_with_more_to_it_is_refused(tmp_path):
    Run(tmp_path / "c.pt", schedule=sequential).run(2)
    assert Run(tmp_path / "c.pt", schedule=sequential, length=8).run(3).scheduler.last_epoch == 24
    Run(tmp_path / "d.pt", schedule=SCHEDULES["restarts"]).run(2)
    with pytest.raises(InputError, match=r"d\.pt was written with epochs of another length.*T_cur"):
        Run(tmp_path / "d.pt", schedule=SCHEDULES["restarts"], length=8).run(3)


@pytest.mark.parametrize("started", ["first", "afresh", "with a checkpoint of fewer processes"])
def test_each_process_draws_its_own_numbers(tmp_path, monkeypatch, started):
    """Stochastic depth shall drop other samples in each; where there is one process, nothing changes."""
    if started != "first":
        Run(tmp_path / "c.pt").run(1)
    draws = []
    for number in range(3):
        monkeypatch.setattr("miram.handlers.checkpoint_state.rank", lambda number=number: number)
        run = Run(tmp_path / "c.pt", resume=started != "afresh")
        run.engine.state.max_epochs, run.engine.state.epoch_length = 2, LENGTH
        before = torch.get_rng_state()
        run.handler.load(run.engine)
        assert torch.equal(torch.get_rng_state(), before) == (number == 0 and not started.startswith("with"))
        draws.append(torch.rand(1).item())
    assert len(set(draws)) == 3


def test_with_batches_of_another_size_a_run_goes_on_at_the_same_share(tmp_path, caplog):
    first = Run(tmp_path / "c.pt", minutes=0)
    stop_at(first, Events.ITERATION_STARTED, once=7)
    with pytest.raises(RuntimeError, match="crash"):
        first.run(3)
    second = Run(tmp_path / "c.pt", length=8).run(2)
    assert "an epoch now has 8 iterations, not 4" in caplog.text
    assert second.engine.state.iteration == 16
    assert len(second.seen) == 8  # the second half of 16 samples
    assert second.scheduler.last_epoch == 16


def test_resume_false_starts_afresh_says_so_and_keeps_nothing_of_the_old_run(tmp_path, caplog):
    Run(tmp_path / "c.pt").run(2)
    assert content_of(tmp_path / "c_previous.pt")["epoch"] == 1
    with caplog.at_level("INFO"):
        Run(tmp_path / "c.pt", resume=False).run(1)
    assert "starting afresh" in caplog.text
    assert content_of(tmp_path / "c.pt")["epoch"] == 1
    assert not (tmp_path / "c_previous.pt").exists()


def test_a_finished_run_does_nothing_more(tmp_path, caplog):
    Run(tmp_path / "c.pt").run(2)
    before = (tmp_path / "c.pt").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        Run(tmp_path / "c.pt").run(2)
    assert "after epoch 2 of 2" in caplog.text
    assert (tmp_path / "c.pt").stat().st_mtime_ns == before


def test_only_every_interval_and_the_last_epoch_are_saved(tmp_path):
    run = Run(tmp_path / "c.pt", interval=2)
    saved = []
    run.engine.add_event_handler(Events.EPOCH_STARTED, lambda e: saved.append((tmp_path / "c.pt").exists()))
    run.run(3)
    assert saved == [False, False, True]
    assert content_of(tmp_path / "c.pt")["epoch"] == 3


def test_weights_are_gathered_only_for_a_checkpoint_that_is_written(tmp_path, monkeypatch):
    gathered = []
    monkeypatch.setattr(
        "miram.handlers.checkpoint_state.whole_state", lambda part: gathered.append(part) or part.state_dict()
    )
    run = Run(tmp_path / "c.pt", interval=2)
    run.engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: counts.append(len(gathered)))
    counts: list[int] = []
    run.run(4)
    parts = len(run.handler.state.weights)
    assert counts == [0, 0, parts, parts]
    assert len(gathered) == 2 * parts


def test_a_run_that_ends_early_is_saved(tmp_path):
    run = Run(tmp_path / "c.pt", interval=9)
    stop_at(run, Events.EPOCH_COMPLETED, lambda e: e.terminate(), once=2)
    run.run(5)
    assert content_of(tmp_path / "c.pt")["epoch"] == 2


def test_a_damaged_checkpoint_costs_the_epoch_since_the_one_before(tmp_path, caplog):
    whole = Run(tmp_path / "c.pt").run(3)
    raw = bytearray((tmp_path / "c.pt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "c.pt").write_bytes(bytes(raw))
    again = Run(tmp_path / "c.pt").run(3)
    assert {epoch for epoch, _ in again.seen} == {3}
    assert torch.equal(whole.weights(), again.weights())


def test_a_damaged_checkpoint_never_takes_the_place_of_a_good_one(tmp_path):
    """Damaged, gone on from the one before, and after one more checkpoint damaged again."""
    whole = Run(tmp_path / "whole.pt").run(4)
    Run(tmp_path / "c.pt").run(2)
    for _ in range(3):
        (tmp_path / "c.pt").write_bytes(b"damaged")
        again = Run(tmp_path / "c.pt")
        stop_at(again, Events.EPOCH_STARTED, once=3)
        with pytest.raises(RuntimeError, match="crash"):
            again.run(4)
    assert torch.equal(whole.weights(), Run(tmp_path / "c.pt").run(4).weights())


def test_the_checkpoint_of_a_run_tells_where_it_comes_from(tmp_path, caplog):
    Run(tmp_path / "c.pt", sha="a", seed=0).run(1)
    assert content_of(tmp_path / "c.pt")["provenance"] == {"sha": "a", "epoch": 1, "iteration": LENGTH}


def test_a_run_tells_of_the_versions_it_began_with(tmp_path):
    Run(tmp_path / "c.pt", commit="a").run(1)
    Run(tmp_path / "c.pt", commit="a").run(2)
    assert "earlier" not in content_of(tmp_path / "c.pt")["provenance"]
    again = Run(tmp_path / "c.pt", commit="b").run(3)
    Run(tmp_path / "c.pt", commit="c").run(4)
    found = content_of(tmp_path / "c.pt")["provenance"]
    assert [(start["commit"], start["epoch"]) for start in found["earlier"]] == [("a", 2), ("b", 3)]
    assert again.handler.state.provenance["earlier"][0]["commit"] == "a"  # what other files of the run are given


@pytest.mark.parametrize(
    ("allowed", "option"),
    [({"test_images": 3}, "allow_test_patients"), ({"leakage": {"allowed": ["images"]}}, "allow_leakage")],
)
def test_what_was_allowed_once_is_not_forgotten(tmp_path, allowed, option):
    Run(tmp_path / "c.pt", **allowed).run(1)
    with pytest.raises(InputError, match=rf"c\.pt was trained with --{option}.*another --output_dir"):
        Run(tmp_path / "c.pt", test_images=0, leakage={"allowed": []}).run(2)
    Run(tmp_path / "c.pt", **allowed).run(2)


def test_a_process_that_torchrun_started_again_goes_on_whatever_resume_says(tmp_path, monkeypatch):
    Run(tmp_path / "c.pt").run(1)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert {epoch for epoch, _ in Run(tmp_path / "c.pt", resume=False).run(2).seen} == {2}


def test_a_start_afresh_stays_one_though_torchrun_starts_it_again_before_its_first_checkpoint(tmp_path, monkeypatch):
    Run(tmp_path / "c.pt").run(1)
    afresh = Run(tmp_path / "c.pt", resume=False)
    afresh.handler.load(afresh.engine)  # and dies
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert {epoch for epoch, _ in Run(tmp_path / "c.pt", resume=False).run(1).seen} == {1}
    assert {epoch for epoch, _ in Run(tmp_path / "c.pt", resume=False).run(2).seen} == {
        2
    }  # now the checkpoint is its own


def test_a_run_goes_on_in_float16_that_began_without_a_loss_scaler(tmp_path):
    Run(tmp_path / "c.pt").run(1)
    again = Run(tmp_path / "c.pt")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    again.handler.state.weights["scaler"] = scaler
    again.run(2)
    assert content_of(tmp_path / "c.pt")["scaler"]["scale"] == 8.0


def test_another_data_list_is_warned_of(tmp_path, caplog):
    Run(tmp_path / "c.pt", dataset={"sha256": "a"}).run(1)
    Run(tmp_path / "c.pt", dataset={"sha256": "a"}).run(1)
    assert "differs" not in caplog.text
    Run(tmp_path / "c.pt", dataset={"sha256": "b"}).run(1)
    assert "dataset differs" in caplog.text


def test_a_checkpoint_of_another_architecture_is_refused_with_the_difference(tmp_path):
    Run(tmp_path / "c.pt").run(1)
    with pytest.raises(InputError, match=r"another architecture: 1 of 4.*0\.weight \(\(8, 3\) saved, \(8, 5\) here\)"):
        Run(tmp_path / "c.pt", width=5).run(1)


def test_something_else_than_a_checkpoint_is_refused(tmp_path):
    torch.save({"model": {}}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"c\.pt is not a checkpoint of a run: it lacks"):
        Run(tmp_path / "c.pt").handler.load(SimpleNamespace(state=None))


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".c.ab_12cde.tmp.pt").write_bytes(b"half")
    (tmp_path / ".hidden").write_text("mine")
    Run(tmp_path / "c.pt").run(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "c.pt"]
