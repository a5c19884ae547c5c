"""Every command and block of `docs/backbone.md`, as a reader types them, on a tiny backbone."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from miram.networks.classifier import ViTClassifier
from miram.networks.vit_encoder import ViTEncoder
from miram.prepare.prepared import write_png16
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.classifier import classifier_content

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs/backbone.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^    python (scripts/.*)$", TEXT, re.MULTILINE)
RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
# The patches and layers of configs/pretrain.yaml, narrow.
ENCODER = {"in_channels": 1, "patch_size": 16, "hidden_size": 24, "mlp_dim": 48, "num_layers": 12, "num_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has who typed the commands: a backbone, crops, exports and a packaged classifier."""
    folder = tmp_path_factory.mktemp("reader")
    encoder = ViTEncoder(img_size=64, **ENCODER)
    save_weights_file(
        folder / "runs/pretrain/backbone.pt", backbone_from_encoder(encoder, RANGE, {"field_of_view": [128, 128]})
    )
    for number, size in enumerate([(150, 200), (100, 128)]):
        crop = np.random.default_rng(number).integers(0, 65536, size).astype(np.uint16)
        write_png16(folder / f"data/my_images/images/{number}.png", crop)
    classifier = ViTClassifier({**ENCODER, "img_size": [224, 224], "patch_size": [16, 16]}, 1)
    task = {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    sizes = {"field_of_view": [448, 448], "image_size": [224, 224]}
    content = classifier_content(classifier, task, {**RANGE, **sizes}, {"seed": 0})
    save_weights_file(folder / "runs/finetune_pathology/model.pt", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in COMMANDS:
            script, *arguments = shlex.split(command)
            patch.setattr(sys, "argv", [script, *arguments])
            runpy.run_path(str(REPOSITORY / script))["main"]()
    return folder


def title(block: str) -> str:
    return TEXT[: TEXT.index(block)].rpartition("\n## ")[2].partition("\n")[0]


def names_after(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a block; unless the block names this package, it cannot be imported."""
    monkeypatch.chdir(folder)
    if "miram" not in block:
        monkeypatch.setitem(sys.modules, "miram", None)
    names: dict[str, object] = {}
    exec(compile(block, "docs/backbone.md", "exec"), names)
    return names


def test_there_are_blocks_and_commands() -> None:
    assert len(BLOCKS) == 8
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_a_block_runs_as_it_stands(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import timm" in block:
        pytest.importorskip("timm", reason="scripts/make_interop_environment.sh makes an environment for timm")
    if "import transformers" in block:
        pytest.importorskip("transformers")
    names = names_after(block, folder, monkeypatch)
    shapes = {name: tuple(value.shape) for name, value in names.items() if isinstance(value, torch.Tensor)}
    expected = {"features": (2, 24), "tokens": (1, 17, 24), "logits": (4, 2), "loss": ()}
    if "bundle.load" in block:
        expected["logits"] = (1, 1)
    if "timm" in block:
        expected["features"] = (1, 24)
    assert shapes.items() >= {name: shape for name, shape in expected.items() if name in names}.items()
    if "network" in names and "timm" not in block:
        assert all(torch.isfinite(value).all() for value in names["network"].state_dict().values())


def test_the_frozen_features_are_those_of_pretraining(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miram.losses.reconstruction import downsample
    from miram.weights.pretrained import pretrained_classifier, read_pretrained

    names = names_after(BLOCKS[0], folder, monkeypatch)
    monkeypatch.undo()
    pretrained = read_pretrained(folder / "runs/pretrain/backbone.pt")
    assert pretrained is not None
    encoder = pretrained_classifier(pretrained.encoder, 1, pretrained).encoder.eval()
    crop = np.random.default_rng(0).integers(0, 65536, (150, 200)).astype(np.uint16)[11:139, 36:164]  # its centre
    image = downsample(torch.from_numpy(crop.astype(np.float32))[None, None] / 65535 * 4 - 2, (64, 64))
    with torch.no_grad():
        expected = encoder.pool(encoder(image))
    torch.testing.assert_close(names["features"][:1], expected, atol=1e-5, rtol=0)
