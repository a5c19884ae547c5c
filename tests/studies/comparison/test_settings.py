"""What a comparison may be asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from miram.errors import InputError
from studies.comparison.peers import Peer
from studies.comparison.settings import check_data, parse_assignments


def test_values_are_read_as_python_or_yaml_reads_them() -> None:
    texts = ["a=1", "b=1e-3", "c=true", "d=[1, 2]", "e=bfloat16", "f=null", "g=x=y", "h={'scale': 1}"]
    found = parse_assignments(texts, "--set")
    assert found == {
        **{"a": 1, "b": 1e-3, "c": True, "d": [1, 2]},
        **{"e": "bfloat16", "f": None, "g": "x=y", "h": {"scale": 1}},
    }


@pytest.mark.parametrize("text", ["max_epochs", "=3"])
def test_an_assignment_needs_key_and_value(text: str) -> None:
    with pytest.raises(InputError, match=r"--mae_set .* is not of the form key=value"):
        parse_assignments([text], "--mae_set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"methods": ("miram", "dino")},
            "'dino' is not one of miram, mae, .*floor, handmade",
        ),
        ({"methods": ("cnn",), "modes": ("linear_probe",)}, "the cnn has no pretrained features"),
        ({"peers": (Peer("cnn", "resnet50"),), "modes": ("linear_probe",)}, "give its ImageNet weights"),
        ({"peers": (Peer("hf", "a/b"), Peer("hf", "c/b"))}, "each only once"),
        ({"backbones": {"mae": Path("configs/mae.yaml")}}, "give the backbone another name"),
        ({"backbones": {"../own": Path("configs/mae.yaml")}}, "give the backbone another name"),
        ({"backbones": {"own": Path("absent.pt")}}, "own: there is no absent.pt"),
        ({"modes": ("knn",)}, "'knn' is not one of finetune, linear_probe, attentive_probe"),
        ({"overrides": {"finetune": {"mode": "linear_probe"}}}, "'mode' is set by the comparison"),
        ({"seeds": (0, 0)}, "each only once"),
        ({"tasks": ()}, "at least one"),
        ({"overrides": {"evaluate": {"split": "validation"}}}, "'split' is set by the comparison"),
        ({"variants": (Path("configs/mae.yaml"),)}, "'mae' is already a method"),
        ({"variants": (Path("configs/absent.yaml"),)}, "no overlay"),
        ({"variants": (Path("configs/demo.yaml"), Path("configs/demo.yaml"))}, "each only once"),
        ({"label_fractions": (0.0,)}, "label fraction 0.0 is not above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings, repository, monkeypatch, changes, message: str) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(InputError, match=message):
        replace(settings, **changes)


def test_the_data_needs_the_tasks_and_a_test_split(settings) -> None:
    assert check_data(settings)["name"] == "small"
    with pytest.raises(InputError, match="no task 'grade'; it has pathology"):
        check_data(replace(settings, tasks=("grade",)))
    path = settings.dataset_dir / "datalist.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test": []}))
    with pytest.raises(InputError, match=r"the test split of .* is empty"):
        check_data(settings)
