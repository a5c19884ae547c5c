import pytest
import torch
from torch import nn

from miram.engines.distributed import (
    is_main_process,
    on_main_process_first,
    start_distributed,
    unwrap,
    world_size,
)


def test_without_torchrun_there_is_one_process():
    assert world_size() == 1
    assert is_main_process()


def test_starting_without_torchrun_says_how(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError, match="torchrun"):
        start_distributed()


def test_unwrap_finds_the_network_inside_a_compiled_one():
    network = nn.Linear(2, 2)
    assert unwrap(torch.compile(network, backend="eager")) is network
    assert unwrap(network) is network


def test_the_main_process_does_the_work_once():
    done = []
    on_main_process_first(lambda: done.append(1))
    on_main_process_first(None)
    assert done == [1]
