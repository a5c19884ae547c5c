"""Times that were measured, and times that are guessed from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.step_cost import training_step_cost
from studies.comparison.cost import (
    describe_plan,
    estimate_seconds,
    iterations,
    pretraining_flops,
    training_seconds,
)
from studies.comparison.plan import make_plan
from studies.comparison.run import run_plan
from studies.comparison.settings import check_data


@pytest.fixture
def short(settings):
    sizes = {"max_epochs": 3, "batch_size": 5}
    return replace(settings, overrides={"pretrain": sizes, "finetune": sizes})


def test_time_is_steps_times_what_a_step_took(short, stub) -> None:
    plan, datalist = make_plan(short), check_data(short)
    half = next(step for step in plan if step.stage == "finetune" and step.label_fraction == 0.5)
    assert iterations(plan[0], datalist) == 3 * 5  # 24 images
    assert iterations(half, datalist) == 3 * 3
    crops = [{**item, "crop": "lesion" if n < 5 else "tissue"} for n, item in enumerate(datalist["training"])]
    shared = replace(plan[0], overrides={**plan[0].overrides, "lesion_share": 0.5})
    assert iterations(shared, {**datalist, "training": crops}) == 3 * 2  # 5 lesions and 5 others in an epoch
    assert iterations(replace(half, overrides={**half.overrides, "min_iterations": 50}), datalist) == 50
    for item in datalist["training"][:14]:
        item["pathology"] = None
    assert iterations(half, datalist) == 3 * 1  # 10 labelled images
    assert estimate_seconds(plan[0], plan, short, datalist) is None
    assert f"{len(plan)} steps of unknown time" in describe_plan(plan, short)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, short, runner=stub(fail_at=plan[1].name))
    assert estimate_seconds(plan[1], plan, short, datalist) == 15.0  # 8 s for 8 iterations
    text = describe_plan(plan, short)
    assert "pretrain/miram/seed_0: finished" in text
    assert "pretrain/mae/seed_1: about 0.2 min" in text


def test_cost_is_read_from_the_histories(short, stub) -> None:
    short = replace(short, methods=("miram", "scratch"))
    plan = make_plan(short)
    run_plan(plan, short, runner=stub())
    found = training_seconds(plan, short, "miram", "pathology", 1.0)
    assert found == {"pretraining_seconds": 8.0, "finetuning_seconds": 8.0}
    assert training_seconds(plan, short, "scratch", "pathology", 1.0)["pretraining_seconds"] == 0


def test_a_probe_has_no_epochs_but_a_time(short, stub) -> None:
    short = replace(short, methods=("miram", "scratch"), modes=("linear_probe",))
    plan = make_plan(short)

    def run(step, settings, lane):
        stub()(step, settings, lane)
        if step.stage == "finetune":
            (settings.output_dir / step.name / "history.csv").write_text("C,val_loss\n0.1,0.6\n")

    run_plan(plan, short, runner=run)
    found = training_seconds(plan, short, "miram", "pathology", 1.0, "linear_probe")
    assert found["pretraining_seconds"] == 8.0
    assert 0 <= found["finetuning_seconds"] < 5
    (short.output_dir / plan[2].name / "finished.json").unlink()
    assert plan[2].mode == "linear_probe"
    assert "time unknown" not in describe_plan(plan, short)


def test_operations_are_those_of_a_step_times_images_and_epochs(settings, repository) -> None:
    sizes = {
        "image_size": [32, 32],
        "patch_size": [8, 8],
        "hidden_size": 48,
        "mlp_dim": 96,
        "num_layers": 2,
        "num_heads": 2,
    }
    own = {"decoders": [{"scale": 1, "hidden_size": 16, "num_layers": 1, "num_heads": 2}]}
    overrides = {"pretrain": {**sizes, "max_epochs": 3}, "mae": own, "barlow_twins": {"projection_sizes": [32, 16]}}
    methods = ("miram", "mae", "barlow_twins", "scratch")
    plan = make_plan(replace(settings, methods=methods, overrides=overrides))
    datalist = check_data(settings)
    found = {method: pretraining_flops(plan, method, {"": datalist}) for method in methods}
    encoder = ViTEncoder(1, (32, 32), (8, 8), hidden_size=48, mlp_dim=96, num_layers=2, num_heads=2)
    loss_function = MultiScaleReconstructionLoss((32, 32), (8, 8), [1])
    cost = training_step_cost(MIRAM(encoder, own["decoders"]), loss_function, (1, 64, 64), mask_ratio=0.75)
    assert found["mae"] == cost.flops * 24 * 3  # 24 training images
    assert found["miram"] > found["mae"]  # two decoders, and larger ones
    assert found["barlow_twins"] > found["mae"]  # whole images, twice
    assert found["scratch"] == 0
