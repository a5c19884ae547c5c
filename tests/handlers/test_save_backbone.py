import torch
from ignite.engine import Engine, Events
from monai.networks.nets import ViT

from miram.handlers.save_backbone import BackboneHandler
from miram.weights.backbone import load_backbone


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
