import pytest
import torch
from ignite.engine import Engine
from torch import nn

from miram.engines.steps import TrainingStep
from miram.errors import InputError
from miram.handlers.ema import ExponentialMovingAverage


def average_of(network, decay, accumulation_steps=1):
    return ExponentialMovingAverage(network, decay, TrainingStep(accumulation_steps=accumulation_steps))


def train(average, network, values):
    """Each iteration sets the weight to a value, as does an optimizer step."""

    def step(engine, value):
        with torch.no_grad():
            network.weight.fill_(value)

    engine = Engine(step)
    average.attach(engine)
    engine.run(values)


def network_of(weight):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, weight)
    return network


def test_the_average_follows_slowly():
    network = network_of(1.0)
    average = average_of(network, 0.9)
    train(average, network, [3.0, 4.0])
    assert average.network.weight.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 3) + 0.1 * 4)
    assert network.weight.item() == 4


def test_it_counts_optimizer_steps_not_batches():
    """Groups of two batches and, at the end of an epoch of five, of one."""
    network = network_of(0.0)
    average = average_of(network, 0.5, accumulation_steps=2)
    train(average, network, [9.0, 1.0, 9.0, 2.0, 3.0])
    expected = network_of(0.0)
    steps = average_of(expected, 0.5)
    train(steps, expected, [1.0, 2.0, 3.0])
    assert torch.equal(average.network.weight, steps.network.weight)


def test_without_a_decay_the_network_itself_is_kept():
    network = network_of(1.0)
    average = average_of(network, None)
    train(average, network, [5.0])
    assert average.network is network
    assert average.state_dict() == {}


def test_a_resumed_average_goes_on():
    network = network_of(0.0)
    whole = average_of(network, 0.9)
    train(whole, network, [1.0, 2.0, 3.0])
    network = network_of(0.0)
    first = average_of(network, 0.9)
    train(first, network, [1.0, 2.0])
    second = average_of(network_of(9.0), 0.9)
    second.load_state_dict(first.state_dict())
    train(second, second.source, [3.0])
    assert torch.equal(second.network.weight, whole.network.weight)


def test_a_checkpoint_without_an_average_starts_one_at_its_weights():
    average = average_of(network_of(9.0), 0.9)
    nn.init.constant_(average.network.weight, 2.0)
    average.load_state_dict({})
    assert average.network.weight.item() == 9


def test_buffers_are_averaged_too():
    network = nn.BatchNorm1d(1, affine=False)
    average = average_of(network, 0.5)

    def step(engine, mean):
        network.running_mean.fill_(mean)
        network.num_batches_tracked += 1

    engine = Engine(step)
    average.attach(engine)
    engine.run([2.0, 4.0])
    assert average.network.running_mean.item() == pytest.approx(0.25 * 0 + 0.25 * 2 + 0.5 * 4)
    assert average.network.num_batches_tracked == 2


@pytest.mark.parametrize("decay", [0, 1, 1.5])
def test_the_decay_is_a_share(decay):
    with pytest.raises(InputError, match="ema_decay must be above 0 and below 1"):
        average_of(network_of(1.0), decay)
