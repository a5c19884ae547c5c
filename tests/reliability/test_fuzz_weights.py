"""Damaged and hostile weights: refused by name, never run, never built larger than the file."""

from __future__ import annotations

import copy
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miram.errors import InputError
from miram.inference.classifying import load_trained
from miram.networks.classifier import ViTClassifier
from miram.networks.vit_encoder import ViTEncoder
from miram.provenance.description import describe_file
from miram.weights.backbone import backbone_from_encoder, load_backbone, vit_from_backbone
from miram.weights.classifier import classifier_content
from miram.weights.pretrained import encoder_arguments, pretrained_classifier, read_pretrained

from ..handlers.test_checkpoint import LENGTH, Run
from .mutations import mutate
from .refusal import problem

ENCODER = {
    **{"in_channels": 1, "img_size": [16, 16], "patch_size": [8, 8], "hidden_size": 8, "mlp_dim": 16},
    **{"num_layers": 1, "num_heads": 2},
}


def use_backbone(path: Path) -> None:
    """All that is done with a backbone before a training begins."""
    vit_from_backbone(load_backbone(path))
    pretrained = read_pretrained(path)
    pretrained_classifier(encoder_arguments(pretrained, None, {}), 1, pretrained, pool="mean")


def make_backbone() -> dict[str, Any]:
    facts = {"seed": 0, "scales": [1, 2], "field_of_view": [32, 32]}
    return backbone_from_encoder(
        ViTEncoder(**ENCODER), {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}, facts
    )


def make_model() -> dict[str, Any]:
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    return classifier_content(
        ViTClassifier(ENCODER, 1, "mean"), task, {"a_min": 0, "field_of_view": [32, 32]}, {"seed": 0}
    )


def make_checkpoint() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        Run(Path(folder) / "checkpoint.pt", seed=0, dataset={"sha256": "a"}).run(1)
        return dict(torch.load(Path(folder) / "checkpoint.pt", weights_only=True))


def use_checkpoint(path: Path) -> None:
    """Go on from it, up to the first step; and tell where it comes from."""
    run = Run(path)
    run.engine.state.epoch_length, run.engine.state.max_epochs = LENGTH, 2
    run.handler.load(run.engine)
    describe_file(path)


KINDS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[Path], object]]] = {
    "backbone": (make_backbone, use_backbone),
    "model": (make_model, load_trained),
    "checkpoint": (make_checkpoint, use_checkpoint),
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-1, 10**6), max_size=3),
    st.just({}),
    st.just(torch.zeros(3)),
    st.just(torch.zeros(1).expand(3000, 3000)),  # 36 MB, if somebody copied it
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each part of nested dictionaries and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, part in inner for place in places(part, (*path, key))]


def with_change(content: dict[str, Any], place: tuple[Any, ...], value: Any, drop: bool) -> dict[str, Any]:
    result = copy.deepcopy(content)
    part = result
    for key in place[:-1]:
        part = part[key]
    if drop:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_other_values_is_used_or_refused_by_name(kind: str, request: pytest.FixtureRequest) -> None:
    make, use = KINDS[kind]
    content = make()
    options = settings(
        max_examples=request.config.getoption("--fuzz_cases", default=2000) // 10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @options
    @given(st.sampled_from(places(content)), VALUES, st.booleans())
    def check(place: tuple[Any, ...], value: Any, drop: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{kind}.pt"
            torch.save(with_change(content, place, value, drop), path)
            assert str(path) in problem(use, path)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_refused_by_name_or_harmless(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make, use = KINDS[kind]
    stream = io.BytesIO()
    torch.save(make(), stream)
    path = tmp_path / f"{kind}.pt"
    for case in range(request.config.getoption("--fuzz_cases", default=2000) // 20):
        path.write_bytes(mutate(stream.getvalue(), path.name, np.random.default_rng(case)))
        assert str(path) in problem(use, path), f"case {case}"


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["file", "part", "legacy"])
@pytest.mark.parametrize("use", [load_backbone, read_pretrained, load_trained])
def test_no_code_in_a_file_is_run(tmp_path: Path, place: str, use: Callable[[Path], object]) -> None:
    made, path = tmp_path / "made", tmp_path / "weights.pt"
    content = Malicious(made) if place == "file" else make_backbone() | {"provenance": Malicious(made)}
    torch.save(content, path, _use_new_zipfile_serialization=place != "legacy")
    with pytest.raises(InputError, match="cannot be read as weights"):
        use(path)
    assert not made.exists()
    pickle.loads(pickle.dumps(Malicious(made)))
    assert made.exists(), "the code does what it is for, where it is run"


def test_weights_that_would_grow_in_memory_are_refused(tmp_path: Path) -> None:
    torch.save(make_backbone() | {"more": torch.zeros(10**7)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 10**5
    with pytest.raises(InputError, match="is compressed"):
        load_backbone(tmp_path / "bomb.pt")


@pytest.mark.parametrize(("key", "value"), [("num_layers", 10**9), ("hidden_size", 2**30), ("img_size", [2**20] * 2)])
def test_a_network_is_not_built_larger_than_its_weights(tmp_path: Path, key: str, value: Any) -> None:
    content = make_backbone()
    content["network_def"][key] = value
    torch.save(content, tmp_path / "backbone.pt")
    with pytest.raises(InputError, match=r"is damaged|a network that cannot be built"):
        load_backbone(tmp_path / "backbone.pt")
