from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import from_engine
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._inductor.exc import InductorError

from miram.engines.pretraining import PreparePretrainingBatch
from miram.engines.steps import TrainingStep, ValidationStep, autocast, in_precision
from miram.errors import InputError
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.masking import RandomMasking
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

CPU = torch.device("cpu")


class Half(nn.Module):
    """Half the squared error, as a dictionary of losses."""

    def forward(self, output, target):
        loss = (output - target).square().mean() / 2
        return {"loss": loss, "loss_1x": loss}

    def per_image(self, output, target):
        return (output - target).square() / 2


def prepare(batch, device, non_blocking=False):
    return batch["image"], batch["label"], (), {}


def train(step, batches, epochs=1, loss=None, network=None, optimizer=None):
    if network is None:
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=0.1)
    loss = loss or Half()
    trainer = SupervisedTrainer(
        CPU, epochs, batches, network, optimizer, loss, prepare_batch=prepare, iteration_update=step, decollate=False
    )
    trainer.run()
    return network.weight.item(), trainer


def batches_of(*targets):
    return [{"image": torch.ones(1, 1), "label": torch.tensor([[float(target)]])} for target in targets]


def test_each_batch_is_a_step_by_default():
    weight, trainer = train(TrainingStep(), batches_of(1, 1))
    assert weight == pytest.approx(0.1 + 0.1 * 0.9)
    assert trainer.state.output[0]["loss"].item() == pytest.approx(0.5 * 0.9**2)
    assert not trainer.state.output[0]["loss"].requires_grad


def test_monais_handlers_can_read_the_loss():
    _, trainer = train(TrainingStep(), batches_of(1))
    assert from_engine(["loss"], first=True)(trainer.state.output).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [nn.MSELoss(), lambda output, target: {"loss": nn.MSELoss()(output, target)}])
def test_a_loss_is_a_tensor_or_a_dictionary(loss):
    weight, trainer = train(TrainingStep(), batches_of(1), loss=loss)
    assert weight == pytest.approx(0.2)
    assert trainer.state.output == [{"loss": torch.tensor(1.0)}]


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda output, target: {"mse": (output - target).mean()}, "returned a dict; training needs one number"),
        (lambda output, target: [(output - target).mean()], "returned a list"),
        (nn.MSELoss(reduction="none"), r"returned a Tensor of shape \(2, 1\)"),
    ],
)
def test_another_loss_is_refused(loss, told):
    batch = {"image": torch.ones(2, 1), "label": torch.ones(2, 1)}
    with pytest.raises(InputError, match=told):
        train(TrainingStep(), [batch], loss=loss)


def test_accumulated_gradients_are_those_of_one_large_batch():
    weight, _ = train(TrainingStep(accumulation_steps=2), batches_of(1, 3))
    assert weight == pytest.approx(0.1 * (1 + 3) / 2)


def test_the_last_group_of_an_epoch_is_averaged_over_its_own_batches():
    weight, _ = train(TrainingStep(accumulation_steps=2), batches_of(1, 1, 2))
    assert weight == pytest.approx(0.1 + 0.1 * (2 - 0.1))


def test_an_epoch_shorter_than_the_accumulation_still_steps():
    weight, _ = train(TrainingStep(accumulation_steps=8), batches_of(1, 3), epochs=2)
    assert weight == pytest.approx(0.2 + 0.1 * (2 - 0.2))


def test_gradients_are_clipped():
    weight, _ = train(TrainingStep(clip_grad_norm=0.5), batches_of(100))
    assert weight == pytest.approx(0.1 * 0.5, rel=1e-4)  # torch divides by norm + 1e-6


NAN = float("nan")


@pytest.mark.parametrize("clip", [None, 1e9])
@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_a_step_whose_loss_is_not_finite_is_left_out(bad, clip):
    weight, trainer = train(TrainingStep(clip_grad_norm=clip), batches_of(1, bad))
    assert weight == pytest.approx(0.1)
    assert trainer.state.skipped.item() == 1
    assert train(TrainingStep(clip_grad_norm=clip), batches_of(bad, 1))[0] == pytest.approx(0.1)


def test_a_bad_batch_leaves_out_the_step_of_its_group():
    weight, _ = train(TrainingStep(accumulation_steps=2), batches_of(NAN, 1, 2, 2))
    assert weight == pytest.approx(0.2)


def test_a_finite_loss_with_a_gradient_that_is_not_is_left_out():
    class Root(Half):
        def forward(self, output, target):
            return {"loss": (output - target).abs().sum().sqrt()}  # at 0, its slope is infinite

    weight, trainer = train(TrainingStep(), batches_of(0), loss=Root())
    assert weight == 0
    assert (trainer.state.output[0]["loss"].item(), trainer.state.skipped.item()) == (0, 1)


def scaled_step(**options):
    """A step with the loss scaler of float16, which torch has for CPUs, too."""
    step = TrainingStep(**options)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    return step


@pytest.mark.parametrize("clip", [None, 1e9])
def test_a_scaled_loss_that_is_not_finite_is_left_out_and_told_of(clip):
    weight, trainer = train(scaled_step(clip_grad_norm=clip), batches_of(1, NAN))
    assert weight == pytest.approx(0.1)
    assert trainer.state.skipped.item() == 1


def test_an_overflow_is_answered_by_the_scaler_and_is_no_fault():
    class Steep(Half):
        def forward(self, output, target):
            return {"loss": ((output - target) * 1e35).sum()}  # 1e35 x 65536 is infinite in float32

    step = scaled_step()
    weight, trainer = train(step, batches_of(0), loss=Steep())
    assert (weight, trainer.state.skipped.item(), step.scaler.get_scale()) == (0, 0, 2.0**15)


def test_gradients_that_overflow_at_every_scale_are_told_of():
    class Root(Half):
        def forward(self, output, target):
            return {"loss": (output - target).abs().sum().sqrt()}  # at 0, its slope is infinite

    flags = []
    step = scaled_step()

    def note(engine, batch):
        output = step(engine, batch)
        flags.append(engine.state.skipped.item())
        return output

    train(note, batches_of(0) * 40, loss=Root())
    assert flags[0] == 0
    assert flags[-1] == 1


def test_a_fused_optimizer_leaves_a_step_out_as_another_one_does():
    """On a GPU nothing is read back: the optimizer itself looks at the flag. Torch has fused steps on CPUs, too."""
    batches = batches_of(1, NAN, 3)
    results = []
    for fused in (False, True):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)
        train(TrainingStep(), batches, network=network, optimizer=optimizer)
        assert optimizer.state[network.weight]["step"] == 2
        results.append(network.weight.item())
    assert results[1] == pytest.approx(results[0], rel=1e-6)


def test_the_flag_is_there_where_the_optimizer_steps():
    flags = []
    step = TrainingStep(accumulation_steps=2)

    def note(engine, batch):
        output = step(engine, batch)
        flags.append(None if engine.state.skipped is None else engine.state.skipped.item())
        return output

    train(note, batches_of(1, NAN, 1))
    assert flags == [None, 1, 0]
    assert [step.ends_group(iteration, 3) for iteration in (1, 2, 3, 4, 5)] == [False, True, True, False, True]


def test_accumulation_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        TrainingStep(accumulation_steps=0)


@pytest.mark.parametrize(("precision", "message"), [("fp8", "one of"), ("float16", "needs a GPU")])
def test_precisions_that_do_not_work_are_refused(precision, message):
    with pytest.raises(InputError, match=message):
        autocast(CPU, precision)


def test_bfloat16_is_used_on_a_cpu():
    with autocast(CPU, "bfloat16"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_in_float32_inference_is_the_networks_own():
    network = nn.Linear(2, 1)
    assert in_precision(network, "float32") is network


def test_in_another_precision_the_network_computes_in_it_and_returns_float32():
    seen = []
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    image = torch.randn(3, 2)
    found = in_precision(network, "bfloat16")(image)
    assert seen == [torch.bfloat16]
    assert found.dtype == torch.float32
    assert not torch.equal(found, network(image))


LEVERS = {"statistics_weight": 0.5, "gradient_weight": 0.5, "texture_weight": 1.0}


def pretrain(precision, parallel=False, **options):
    """Losses of two epochs with validations of a pretraining with all kinds of targets."""
    torch.manual_seed(0)
    loss = MultiScaleReconstructionLoss((16, 16), (4, 4), [1, 2], **LEVERS)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    decoders = [{"scale": 1, **sizes}, {"scale": 2, "kind": "cross_attention", **sizes}]
    encoder = ViTEncoder(1, (16, 16), (4, 4), 24, 48, 1, 2)
    network = MIRAM(encoder, decoders, loss.extra_outputs, loss.texture_outputs)
    network = nn.parallel.DistributedDataParallel(network) if parallel else network
    prepare = PreparePretrainingBatch(RandomMasking(0.75), (16, 16), 16)
    batches = [{"label": torch.randn(2, 1, 32, 32), "index": torch.arange(2), "epoch": torch.ones(2)} for _ in range(3)]
    losses = []
    trainer = SupervisedTrainer(
        *(CPU, 2, batches, network, torch.optim.SGD(network.parameters(), lr=0.1), loss),
        prepare_batch=prepare,
        iteration_update=TrainingStep(precision, **options),
        decollate=False,
    )
    validator = SupervisedEvaluator(
        *(CPU, batches, network), prepare_batch=prepare, iteration_update=ValidationStep(loss), decollate=False
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validator.run())
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: losses.append(trainer.state.output[0]["loss"].item()))
    trainer.run()
    return losses


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_network_and_loss_are_compiled_once_into_one_graph_and_validations_change_nothing(precision):
    torch.compiler.reset()  # the graphs of other tests count towards a limit
    counters.clear()
    found = pretrain(precision, compile=True, compile_kwargs={"backend": "aot_eager"})
    assert (counters["stats"]["unique_graphs"], counters["frames"]["total"]) == (1, 1)
    assert not counters["graph_break"]
    assert found == pytest.approx(pretrain(precision), rel=1e-6 if precision == "float32" else 1e-2)


def test_a_network_of_several_processes_can_be_compiled(tmp_path):
    torch.compiler.reset()
    expected = pretrain("float32")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        found = pretrain("float32", parallel=True, compile=True, compile_kwargs={"backend": "aot_eager"})
    finally:
        dist.destroy_process_group()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_where_compiling_fails_training_goes_on_without_it_and_says_why_once(where, caplog):
    def broken(graph, inputs):
        raise InductorError(RuntimeError("the compiler is missing"), None)

    torch.compiler.reset()
    backend = broken if where == "forward" else aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=broken)
    step = TrainingStep(compile=True, compile_kwargs={"backend": backend})
    assert train(step, batches_of(1, 1))[0] == pytest.approx(0.1 + 0.1 * 0.9)
    told = [record.message for record in caplog.records if record.name == "miram.engines.steps"]
    assert len(told) == 1
    assert "without torch.compile" in told[0]
    assert "the compiler is missing" in told[0]


def test_auto_does_not_compile_on_a_cpu_and_other_words_are_refused():
    step = TrainingStep(compile="auto", compile_kwargs={"backend": "no such backend"})
    assert train(step, batches_of(1))[0] == pytest.approx(0.1)
    with pytest.raises(InputError, match="--compile takes"):
        TrainingStep(compile="perhaps")


def validator_of(network):
    return SimpleNamespace(
        prepare_batch=prepare,
        state=SimpleNamespace(device=CPU),
        non_blocking=False,
        network=network,
        inferer=lambda inputs, net: net(inputs),
        fire_event=lambda event: None,
    )


def test_validation_gives_the_loss_of_each_image_and_changes_nothing():
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.9)).train()
    before = [p.clone() for p in network.parameters()]
    engine = validator_of(network)
    batch = {"image": torch.randn(4, 1), "label": torch.zeros(4, 1)}
    first, second = (ValidationStep(Half())(engine, batch)["per_image"] for _ in range(2))
    assert first.shape == (4, 1)
    assert torch.equal(first, second)  # dropout rests
    assert not first.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_stock_loss_is_validated_image_by_image():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    batch = {"image": torch.ones(2, 1), "label": torch.tensor([[1.0], [3.0]])}
    assert ValidationStep(nn.MSELoss())(validator_of(network), batch)["per_image"].tolist() == [[1.0], [9.0]]
