import json

import pytest
from jsonschema import validate

import miram

SCHEMA = "../shared/data/monai/meta_schema_20240725.json"


@pytest.fixture
def metadata(repository):
    return json.loads((repository / "configs/metadata.json").read_text())


def test_both_copies_have_the_same_bytes(repository):
    assert (repository / "metadata.json").read_bytes() == (repository / "configs/metadata.json").read_bytes()


def test_the_version_is_the_packages_and_has_its_change(metadata):
    assert metadata["version"] == miram.__version__
    assert metadata["version"] in metadata["changelog"]


def test_versions_are_those_that_were_tested(metadata, repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))
    named = metadata["required_packages_version"] | {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    assert {name: pinned.get(name) for name in named} == named


def test_it_follows_monais_schema(metadata, repository):
    if not (repository / SCHEMA).is_file():
        pytest.skip(f"MONAI's metadata schema is not at {SCHEMA}")
    validate(metadata, json.loads((repository / SCHEMA).read_text()))
    assert "not a medical device" in metadata["intended_use"]
