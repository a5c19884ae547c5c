import pytest
import yaml
from monai.bundle import ConfigParser

from miram.packaging.configs import make_config, run_in_one_section


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write


def test_overlays_are_merged_as_monai_does_and_values_come_last(folder):
    path = folder(
        base={"a": 1, "train": {"items": [1, 2]}, "gone": 0, "filled": None},
        over={"train#items": [5], "new": "@a"},
    )
    made = make_config(path, ("base", "over"), {"filled": {"x": 1}, "unknown": 2}, without=("gone",))
    assert made == {"a": 1, "train": {"items": [5]}, "filled": {"x": 1}, "new": "@a"}


def test_initialize_becomes_the_head_of_run():
    assert run_in_one_section({"initialize": [1], "a": 2, "run": [3]}) == {"a": 2, "run": [1, 3]}
    assert run_in_one_section({"device": 1}) == {"device": 1}


@pytest.mark.parametrize("name", ["train", "inference", "evaluate", "multi_gpu_train"])
def test_no_packaged_config_imports_our_package_early(packaged, name):
    """MONAI evaluates all imports with the first id that it reads, and finds the bundle's code only from `run` on."""
    config = ConfigParser.load_config_file(packaged / f"configs/{name}.json")
    assert "initialize" not in config
    assert not [line for line in config.get("imports", []) if "miram" in line]
