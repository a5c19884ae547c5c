import pytest
import yaml
from monai.bundle import ConfigParser

from miram.packaging.configs import make_config, run_in_one_section, without_early_imports


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write


def test_overlays_set_nested_ids_and_remove_some_and_values_come_last(folder):
    path = folder(
        base={"a": 1, "b": {"c": [1, 2]}, "gone": 0, "filled": None},
        over={"b#c#1": 5, "new": "@a", "_remove_": ["gone"]},
    )
    made = make_config(path, ("base", "over"), {"filled": {"x": 1}, "unknown": 2})
    assert made == {"a": 1, "b": {"c": [1, 5]}, "filled": {"x": 1}, "new": "@a"}


def test_our_imports_are_evaluated_when_they_are_used():
    config = {
        "imports": ["$import math", "$from miram.flags import flag", "$from miram.no.such import nothing"],
        "yes": "$flag('x', 'true') and my_flag(1)",
        "my_flag": None,
        "text": "flag(1) is no expression",
        "never": ["$nothing(1)"],
        "root": "$math.sqrt(4)",
    }
    made = without_early_imports(config)
    assert made["imports"] == ["$import math"]
    assert made["yes"] == "$@flag('x', 'true') and my_flag(1)"
    assert made["text"] == config["text"]
    assert made["never"] == ["$@nothing(1)"]
    parser = ConfigParser({**made, "yes": "$@flag('x', 'true')"})
    assert parser.get_parsed_content("root") == 2.0  # although the other import would fail
    assert parser.get_parsed_content("yes") is True


def test_initialize_becomes_the_head_of_run():
    assert run_in_one_section({"initialize": [1], "a": 2, "run": [3]}) == {"a": 2, "run": [1, 3]}
    assert run_in_one_section({"device": 1}) == {"device": 1}


@pytest.mark.parametrize("name", ["train", "inference", "evaluate", "multi_gpu_train"])
def test_no_packaged_config_imports_our_package_early(packaged, name):
    config = ConfigParser.load_config_file(packaged / f"configs/{name}.json")
    assert "initialize" not in config
    assert not [line for line in config.get("imports", []) if "miram" in line]
