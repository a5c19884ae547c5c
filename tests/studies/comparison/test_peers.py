"""How networks of others are named in a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from miram.errors import InputError
from studies.comparison.peers import parse_peer


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cnn:resnet50", "cnn_resnet50"),
        ("timm:resnet50.a1_in1k", "timm_resnet50.a1_in1k"),
        ("hf:facebook/dinov2-small", "hf_dinov2-small"),
    ],
)
def test_the_name_of_a_method_is_also_that_of_a_folder(text: str, name: str) -> None:
    assert parse_peer(text).name == name


@pytest.mark.parametrize("text", ["miram", "own=backbone.pt", "own=cnn:backbone.pt", "keras:vit"])
def test_other_methods_are_left_to_others(text: str) -> None:
    assert parse_peer(text) is None


def test_weights_are_in_the_name_and_must_exist(tmp_path: Path) -> None:
    weights = tmp_path / "image net.pth"
    with pytest.raises(InputError, match=r"there is no .*image net\.pth"):
        parse_peer(f"timm:vit={weights}")
    weights.touch()
    peer = parse_peer(f"timm:vit={weights}")
    assert (peer.name, peer.has_features) == ("timm_vit_image_net", True)
    assert not parse_peer("cnn:resnet18").has_features
