"""What a packaged training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from miram.packaging.package_training import start_from, write_weights


def network_of(value: float) -> nn.Linear:
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, value)
    return network


def start(folder: Path, resume: bool = True) -> float:
    network = network_of(0.0)
    start_from(network, folder / "model.pt", folder / "run", resume)
    return network.weight[0, 0].item()


def test_a_run_that_was_killed_early_begins_with_the_same_weights_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its best epoch has replaced those that it was started from."""
    write_weights(network_of(1.0), tmp_path / "model.pt")
    assert start(tmp_path) == 1.0
    write_weights(network_of(2.0), tmp_path / "model.pt")
    assert start(tmp_path) == 1.0
    assert start(tmp_path, resume=False) == 2.0
    assert start(tmp_path) == 2.0
    write_weights(network_of(3.0), tmp_path / "model.pt")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert start(tmp_path, resume=False) == 2.0  # what the first start of the same run began with


def test_weights_that_training_cannot_reach_are_left_out(tmp_path: Path) -> None:
    network = nn.ModuleDict({"a": nn.ModuleDict({"norm_cross_attn": nn.LayerNorm(2)}), "b": nn.Linear(2, 1)})
    start_from(network, None, tmp_path)
    assert [name for name, parameter in network.named_parameters() if parameter.requires_grad] == ["b.weight", "b.bias"]


@pytest.mark.parametrize("path", [None, "none"])
def test_random_weights_are_kept_too(tmp_path: Path, path: str | None) -> None:
    torch.manual_seed(1)
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    for network in (first, second):
        start_from(network, path, tmp_path)
    assert torch.equal(first.weight, second.weight)
