"""What runs, in which order, and what must not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from miram.errors import InputError
from studies.comparison.peers import parse_peer
from studies.comparison.plan import effective_config, identity, make_plan, run_overrides


def step_of(plan, name):
    return next(step for step in plan if step.name == name)


def test_pretraining_runs_once_a_method_and_seed(settings) -> None:
    plan = make_plan(replace(settings, methods=("miram", "mae", "scratch", "floor", "handmade")))
    names = [step.name for step in plan]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("pretrain")] == [
        f"pretrain/{method}/seed_{seed}" for seed in (0, 1) for method in ("miram", "mae")
    ]
    assert sum(step.stage == "finetune" for step in plan) == 3 * 2 * 2
    assert sum(step.is_result for step in plan) == 5 * 1 * 2 * 2
    assert "floor/pathology/fraction_0.5/seed_1" in names
    assert all(names.index(step.after.name) < names.index(step.name) for step in plan if step.after)


def test_each_step_starts_from_the_one_before(settings) -> None:
    plan = make_plan(settings)
    tuned = run_overrides(step_of(plan, "finetune/mae/pathology/fraction_0.5/seed_1"), settings)
    judged = run_overrides(step_of(plan, "evaluate/mae/pathology/fraction_0.5/seed_1"), settings)
    assert tuned["pretrained"] == str(settings.output_dir / "pretrain/mae/seed_1/backbone.pt")
    assert (tuned["seed"], tuned["label_fraction"], tuned["prepare_data"]) == (1, 0.5, None)
    assert judged["model"] == tuned["output_dir"] + "/model.pt"
    assert judged["split"] == "test"


def test_scratch_has_the_encoder_of_the_pretrained(settings, repository: Path) -> None:
    overrides = {"pretrain": {"num_layers": 3}}
    plan = make_plan(replace(settings, overlays=[repository / "configs/model_tiny.yaml"], overrides=overrides))
    scratch = effective_config(step_of(plan, "finetune/scratch/pathology/fraction_1/seed_0"))
    pretrained = effective_config(step_of(plan, "pretrain/miram/seed_0"))
    assert scratch["pretrained"] == "none"
    assert scratch["num_layers"] == 3
    assert scratch["hidden_size"] == pretrained["hidden_size"]
    assert scratch["image_size"] == pretrained["image_size"]


def test_a_variant_is_a_method_with_one_more_overlay(settings, repository: Path) -> None:
    variants = [repository / "configs/control_quarters.yaml"]
    plan = make_plan(replace(settings, methods=("miram", "scratch"), variants=variants))
    plain, variant = (
        effective_config(step_of(plan, f"pretrain/{name}/seed_0")) for name in ("miram", variants[0].stem)
    )
    assert variant["loss_function"]["_target_"] == "studies.benchmark.controls.QuarterLoss"
    assert plain["loss_function"]["_target_"] != variant["loss_function"]["_target_"]
    tuned = step_of(plan, "finetune/control_quarters/pathology/fraction_1/seed_1")
    assert run_overrides(tuned, settings)["pretrained"].endswith("pretrain/control_quarters/seed_1/backbone.pt")


def test_mae_stays_mae_behind_overlays(settings, repository: Path) -> None:
    decoders = [{"scale": 1, "hidden_size": 32, "num_layers": 1, "num_heads": 2}]
    demo = replace(settings, overlays=[repository / "configs/demo.yaml"])
    assert [d["scale"] for d in effective_config(make_plan(demo)[0])["decoders"]] == [1, 2]
    assert [d["scale"] for d in effective_config(make_plan(demo)[1])["decoders"]] == [1]
    own = make_plan(replace(demo, overrides={"mae": {"decoders": decoders}}))
    assert effective_config(own[1])["decoders"] == decoders
    assert effective_config(own[0])["decoders"] != decoders
    two = {"pretrain": {"decoders": [*decoders, {**decoders[0], "scale": 2}]}}
    with pytest.raises(InputError, match=r"mae needs decoders at the scales \[1\]"):
        make_plan(replace(settings, overrides={**two, "mae": two["pretrain"]}))


def test_barlow_twins_has_no_decoder_and_its_own_network(settings, repository: Path) -> None:
    demo = replace(settings, methods=("barlow_twins",), overlays=[repository / "configs/demo.yaml"])
    config = effective_config(make_plan(demo)[0])
    assert config["decoders"] == []
    assert config["network_def"]["_target_"] == "miram.networks.two_views.TwoViewNetwork"
    assert config["hidden_size"] == 192  # the overlay's encoder
    decoders = {"decoders": [{"scale": 1, "hidden_size": 32, "num_layers": 1, "num_heads": 2}]}
    with pytest.raises(InputError, match="--barlow_twins_set"):
        make_plan(replace(demo, overrides={"pretrain": decoders, "barlow_twins": decoders}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train#items#split", "test"),
        ("validate#items#split", "test"),
        ("train#items", "$[]"),
        ("allow_test_patients", True),
    ],
)
def test_pretraining_never_reads_the_test_split(settings, key: str, value: str) -> None:
    with pytest.raises(InputError, match="must not see a test patient"):
        make_plan(replace(settings, overrides={"pretrain": {key: value}}))


def test_a_probe_shares_the_pretraining_of_fine_tuning(settings) -> None:
    probed = replace(settings, modes=("linear_probe",))
    tuned, plan = make_plan(settings), make_plan(probed)
    assert [step.name for step in plan if step.stage == "pretrain"] == [
        step.name for step in tuned if step.stage == "pretrain"
    ]
    assert identity(plan[0], probed) == identity(tuned[0], settings)
    probe = step_of(plan, "linear_probe/mae/pathology/fraction_0.5/seed_1")
    assert [path.stem for path in probe.configs] == ["finetune", "linear_probe"]
    judged = step_of(plan, "evaluate_linear_probe/mae/pathology/fraction_0.5/seed_1")
    assert judged.after == probe
    assert not {step.name for step in plan if step.stage != "pretrain"} & {step.name for step in tuned}


def test_a_backbone_of_ones_own_is_not_pretrained(settings, tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    path.write_bytes(b"weights")
    given = replace(settings, methods=(), backbones={"own": path})
    plan = make_plan(given)
    assert {step.stage for step in plan} == {"finetune", "evaluate"}
    tuned = step_of(plan, "finetune/own/pathology/fraction_1/seed_0")
    assert effective_config(tuned)["pretrained"] == str(path.resolve())
    before = identity(tuned, given)
    path.write_bytes(b"others")
    assert identity(tuned, given) != before


def test_the_cnn_has_its_own_network_and_the_images_of_the_encoders(settings, repository: Path) -> None:
    small = replace(settings, methods=("miram", "scratch", "cnn"), overlays=[repository / "configs/demo.yaml"])
    plan = make_plan(replace(small, overrides={"finetune": {"max_epochs": 7}, "cnn": {"weight_decay": 0.2}}))
    cnn, scratch = (step_of(plan, f"finetune/{name}/pathology/fraction_1/seed_0") for name in ("cnn", "scratch"))
    one, other = effective_config(cnn), effective_config(scratch)
    changed = {key for key in one if one[key] != other.get(key)}
    assert changed == {"network_def", "base_learning_rate", "weight_decay", "output_dir", "architecture"}
    judged = effective_config(step_of(plan, "evaluate/cnn/pathology/fraction_1/seed_0"))
    assert judged["classifier"]["_target_"] == "studies.comparison.cnn.load_trained_cnn"


def test_networks_of_others_are_tuned_and_loaded_in_their_own_way(settings, tmp_path: Path) -> None:
    weights = tmp_path / "imagenet.pth"
    weights.write_bytes(b"weights")
    peers = [parse_peer(text) for text in (f"cnn:resnet50={weights}", "timm:vit_tiny", f"hf:{tmp_path}")]
    given = replace(settings, methods=("scratch",), peers=peers, modes=("linear_probe",))
    plan = make_plan(given)
    assert {step.stage for step in plan} == {"finetune", "evaluate"}
    name = "linear_probe/cnn_resnet50_imagenet/pathology/fraction_1/seed_0"
    cnn = effective_config(step_of(plan, name))
    assert (cnn["architecture"], cnn["weights"], cnn["mode"]) == ("resnet50", str(weights), "linear_probe")
    assert cnn["base_learning_rate"] == 8e-4
    timm = effective_config(step_of(plan, "linear_probe/timm_vit_tiny/pathology/fraction_1/seed_0"))
    assert (timm["library"], timm["encoder_name"], timm["layer_decay"]) == ("timm", "vit_tiny", 1.0)
    judged = effective_config(step_of(plan, "evaluate_linear_probe/timm_vit_tiny/pathology/fraction_1/seed_0"))
    assert judged["classifier"]["_target_"] == "studies.comparison.library_encoder.load_trained_library_encoder"
    assert effective_config(plan[-2])["encoder_name"] == str(tmp_path)  # a folder, from any working directory
    before = identity(step_of(plan, name), given)
    os.utime(weights, ns=(0, 0))
    weights.write_bytes(b"others")
    assert identity(step_of(plan, name), given) != before


def test_a_misspelt_option_is_refused(settings) -> None:
    with pytest.raises(InputError, match="'max_epoch' is not an option of finetune"):
        make_plan(replace(settings, overrides={"finetune": {"max_epoch": 2}}))


def test_the_identity_holds_what_decides_the_result(settings, tmp_path: Path) -> None:
    name = "evaluate/miram/pathology/fraction_1/seed_0"

    def made(**changes):
        changed = replace(settings, **changes)
        return identity(step_of(make_plan(changed), name), changed)

    assert made() == made(output_dir=tmp_path / "elsewhere", seeds=(0, 1, 2))
    assert made() != made(overrides={"pretrain": {"mask_ratio": 0.5}})
    assert made() != made(overrides={"finetune": {"max_epochs": 5}})
    before = made()
    path = settings.dataset_dir / "datalist.json"
    path.write_text(path.read_text() + " ")
    assert made() != before


def test_fine_tuning_needs_a_validation(settings) -> None:
    with pytest.raises(InputError, match="no validation"):
        make_plan(replace(settings, overrides={"finetune": {"max_epochs": 1, "val_interval": 2}}))
