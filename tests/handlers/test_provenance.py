import monai
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

import miram
from miram.errors import InputError
from miram.handlers.provenance import provenance, save_executed_config


def test_versions_and_facts_are_plain_values(tmp_path):
    facts = provenance(seed=3)
    assert facts["seed"] == 3
    assert (facts["miram"], facts["monai"], facts["torch"]) == (miram.__version__, monai.__version__, torch.__version__)
    torch.save(facts, tmp_path / "facts.pt")
    assert torch.load(tmp_path / "facts.pt", weights_only=True) == facts


def test_the_executed_config_holds_overrides_and_unresolved_expressions(tmp_path):
    parser = ConfigParser(
        {
            "width": 3,
            "double": "$2 * @width",
            "save": {"_target_": "miram.handlers.save_executed_config", "output_dir": str(tmp_path)},
        }
    )
    parser.update({"width": 5})
    parser.get_parsed_content("save")
    saved = yaml.safe_load((tmp_path / "executed_config.yaml").read_text())
    assert (saved["width"], saved["double"]) == (5, "$2 * @width")


def test_outside_a_config_there_is_nothing_to_save(tmp_path):
    with pytest.raises(InputError, match="initialize"):
        save_executed_config(tmp_path)
