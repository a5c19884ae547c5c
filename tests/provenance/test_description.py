import hashlib
import json
import subprocess
import sys

import pytest
import torch

from miram.errors import InputError
from miram.handlers.checkpoint_files import write_checkpoint
from miram.provenance.description import describe_file, readable
from miram.weights.backbone import backbone_from_encoder, save_weights_file

FACTS = {"miram": "1.2.3", "commit": None, "seed": 0, "dataset": {"name": "mine", "sha256": "abc"}}


@pytest.fixture
def backbone(tiny_encoder, tmp_path):
    save_weights_file(tmp_path / "backbone.pt", backbone_from_encoder(tiny_encoder, {"a_min": 0}, FACTS))
    return tmp_path / "backbone.pt"


def test_a_backbone_tells_what_it_is_and_where_it_comes_from(backbone, tiny_encoder):
    found = describe_file(backbone)
    assert found["kind"] == "backbone"
    assert found["sha256"] == hashlib.sha256(backbone.read_bytes()).hexdigest()
    assert found["provenance"] == FACTS
    assert found["preprocessing"] == {"a_min": 0}
    assert found["network_def"]["hidden_size"] == 24
    token = tiny_encoder.cls_token.numel()
    assert found["parameters"] == sum(p.numel() for p in tiny_encoder.parameters()) - token
    assert json.loads(json.dumps(found)) == found


def test_a_checkpoint_tells_how_far_the_run_is(tmp_path):
    content = {"network": {"w": torch.zeros(2, 3)}, "optimizer": {}, "epoch": 1, "iteration": 7}
    write_checkpoint(tmp_path / "checkpoint.pt", {**content, "provenance": FACTS})
    found = describe_file(tmp_path / "checkpoint.pt")
    assert (found["kind"], found["parameters"], found["epoch"], found["iteration"]) == ("checkpoint of a run", 6, 1, 7)
    assert json.dumps(found)


def test_results_tell_where_they_come_from_without_the_figures(tmp_path):
    content = {"task": {"name": "t"}, "levels": {"image": {}}, "provenance": FACTS}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    found = describe_file(tmp_path / "metrics.json")
    assert (found["kind"], found["task"], found["provenance"]) == ("results", {"name": "t"}, FACTS)
    assert "levels" not in found


def make_bundle(folder):
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    torch.save({"features.w": torch.zeros(5)}, folder / "models/model.pt")
    digest = hashlib.sha256((folder / "models/model.pt").read_bytes()).hexdigest()
    facts = {"task": {"name": "t"}, "provenance": FACTS, "model_sha256": digest}
    (folder / "configs/inference.json").write_text(json.dumps({"facts": facts}))


def test_a_packaged_bundle_tells_by_its_config(tmp_path):
    make_bundle(tmp_path / "bundle")
    for path in (tmp_path / "bundle", tmp_path / "bundle/models/model.pt"):
        found = describe_file(path)
        assert (found["kind"], found["parameters"]) == ("model of a packaged bundle", 5)
        assert found["provenance"] == FACTS
    torch.save({"features.w": torch.ones(5)}, tmp_path / "bundle/models/model.pt")
    with pytest.raises(InputError, match="trained after its bundle was packaged"):
        describe_file(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pt", None, "there is no file"),
        ("x.json", b"{", "is not valid JSON"),
        ("x.json", b"[]", "contains a list"),
        ("x.json", b"{}", "has no provenance"),
        ("x.pt", b"nonsense", "cannot be read as weights"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        describe_file(tmp_path / name)


def test_bare_weights_do_not_say_where_they_come_from(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="does not say where it comes from"):
        describe_file(tmp_path / "w.pt")


def test_text_is_one_fact_a_line(backbone, repository):
    shown = readable({"seed": 0, "loss": 0.123456789, "dataset": {"name": "mine", "size": None}, "note": {}})
    assert shown.splitlines() == [
        "seed  0",
        "loss  0.123457",
        "dataset:",
        "  name  mine",
        "  size  unknown",
        "note  {}",
    ]
    done = subprocess.run(
        [sys.executable, "scripts/describe.py", str(backbone)], cwd=repository, capture_output=True, text=True
    )
    assert "  miram   1.2.3" in done.stdout.splitlines()
