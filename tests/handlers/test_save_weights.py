import pytest
import torch
from ignite.engine import Engine, Events
from monai.networks.nets import ViT

from miram.errors import InputError
from miram.handlers.save_weights import BackboneHandler, BestModelHandler
from miram.weights.backbone import load_backbone

BEST = {"best": 0.9, "best_epoch": 7, "waited": 0, "key_metric": "val_auc"}


def content():
    return {"state_dict": {}, "provenance": {"seed": 0}}


class Run:
    """A trainer whose validations give the values of a list."""

    def __init__(self, folder, values, patience=None, state=None, metric="val_auc"):
        self.values, self.metric = values, metric
        self.trainer = Engine(lambda engine, batch: None)
        self.evaluator = Engine(lambda engine, batch: None)
        self.handler = BestModelHandler(folder / "model.pt", content, self.evaluator, metric, patience)
        if state is not None:
            self.handler.load_state_dict(state)
        self.evaluator.add_event_handler(Events.COMPLETED, self._measure)
        self.handler.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.evaluator.run([0]))
        self.trainer.run([0], max_epochs=len(values))

    def _measure(self, evaluator):
        evaluator.state.metrics[self.metric] = self.values[self.trainer.state.epoch - 1]


def saved(folder):
    return torch.load(folder / "model.pt", weights_only=True)["provenance"]


def test_the_best_epoch_is_kept(tmp_path):
    run = Run(tmp_path, [0.5, 0.7, 0.7, 0.6])
    assert saved(tmp_path) == {"seed": 0, "epoch": 2, "validation": {"val_auc": 0.7}}
    assert run.handler.state_dict() == {"best": 0.7, "best_epoch": 2, "waited": 2, "key_metric": "val_auc"}


def test_of_the_loss_the_lowest_is_kept(tmp_path):
    Run(tmp_path, [0.7, 0.4, 0.6, 0.5], patience=3, metric="val_loss")
    assert saved(tmp_path) == {"seed": 0, "epoch": 2, "validation": {"val_loss": 0.4}}


def test_a_run_that_goes_on_with_another_metric_chooses_anew(tmp_path, caplog):
    Run(tmp_path, [0.5, 0.4], state={**BEST, "best": 0.9}, metric="val_loss")
    assert saved(tmp_path)["epoch"] == 2
    assert "the best epoch is now chosen by val_loss" in caplog.text


def test_a_value_that_is_no_number_is_never_the_best(tmp_path):
    Run(tmp_path, [float("nan"), 0.4, float("nan")])
    assert saved(tmp_path)["epoch"] == 2


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (None, 6)])
def test_training_stops_when_the_patience_is_over(patience, epochs, tmp_path):
    assert Run(tmp_path, [0.5, 0.6, 0.6, 0.5, 0.5, 0.5], patience).trainer.state.epoch == epochs


def test_a_resumed_run_knows_its_best_epoch(tmp_path):
    Run(tmp_path, [0.5, 0.6], state=BEST)
    assert not (tmp_path / "model.pt").exists()


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    run = Run(tmp_path, [0.95, 0.96], patience=2, state={**BEST, "waited": 2})
    assert run.trainer.state.epoch == 0
    assert not (tmp_path / "model.pt").exists()


def test_a_run_that_leaves_no_model_says_so(tmp_path):
    with pytest.raises(InputError, match=r"no model.pt was written: in 2 epochs val_auc was never a number"):
        Run(tmp_path, [float("nan"), float("nan")])


def test_patience_is_positive(tmp_path):
    with pytest.raises(InputError, match="early_stopping_patience"):
        BestModelHandler(tmp_path, content, Engine(lambda engine, batch: None), patience=0)


def test_the_backbone_holds_the_encoder_and_where_it_comes_from(tiny_encoder, tmp_path):
    engine = Engine(lambda engine, batch: None)
    BackboneHandler(tmp_path / "backbone.pt", tiny_encoder, {"a_min": 0}, {"seed": 7}, interval=5).attach(engine)
    engine.run([0], max_epochs=3)
    backbone = load_backbone(tmp_path / "backbone.pt")
    assert backbone["provenance"] == {"seed": 7, "epoch": 3}
    assert backbone["preprocessing"] == {"a_min": 0}
    assert torch.equal(backbone["cls_token"], tiny_encoder.cls_token)
    ViT(**backbone["network_def"]).load_state_dict(backbone["state_dict"], strict=True)


def test_a_run_that_was_finished_before_leaves_the_backbone_as_it_is(tiny_encoder, tmp_path):
    for seed in (7, 8):
        engine = Engine(lambda engine, batch: None)
        if seed == 8:
            engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 3))  # as a checkpoint does
        BackboneHandler(tmp_path / "backbone.pt", tiny_encoder, {}, {"seed": seed}).attach(engine)
        engine.run([0], max_epochs=3)
    assert load_backbone(tmp_path / "backbone.pt")["provenance"]["seed"] == 7
