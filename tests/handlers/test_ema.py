import pytest
import torch
from ignite.engine import Engine
from torch import nn

from miram.errors import InputError
from miram.handlers.ema import ExponentialMovingAverage


def train(average, network, values):
    """Each iteration sets the weight to a value."""

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
    average = ExponentialMovingAverage(network, 0.9)
    train(average, network, [3.0, 4.0])
    # torch's average begins with a copy of the first weights that it is given
    assert average.network.weight.item() == pytest.approx(0.9 * 3 + 0.1 * 4)
    assert network.weight.item() == 4


def test_without_a_decay_the_network_itself_is_kept():
    network = network_of(1.0)
    average = ExponentialMovingAverage(network, None)
    train(average, network, [5.0])
    assert average.network is network
    assert average.state_dict() == {}


def test_a_resumed_average_goes_on():
    network = network_of(0.0)
    whole = ExponentialMovingAverage(network, 0.9)
    train(whole, network, [1.0, 2.0, 3.0])
    first = ExponentialMovingAverage(network, 0.9)
    train(first, network, [1.0, 2.0])
    second = ExponentialMovingAverage(network_of(9.0), 0.9)
    second.load_state_dict(first.state_dict())
    train(second, second.source, [3.0])
    assert torch.equal(second.network.weight, whole.network.weight)


def test_buffers_are_averaged_too():
    network = nn.BatchNorm1d(1, affine=False)
    average = ExponentialMovingAverage(network, 0.5)
    for mean in (2.0, 4.0):
        network.running_mean.fill_(mean)
        average.update(None)
    assert average.network.running_mean.item() == pytest.approx(3.0)


@pytest.mark.parametrize("decay", [0, 1, 1.5])
def test_the_decay_is_a_share(decay):
    with pytest.raises(InputError, match="ema_decay must be above 0 and below 1"):
        ExponentialMovingAverage(network_of(1.0), decay)
