"""What holds of every config: values instead of programs, and overlays that name whole parts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from miram.flags import OPTIONAL_TEXT, TEXT

CONFIGS = Path(__file__).parents[2] / "configs"
WORKFLOWS = (
    *("pretrain", "finetune", "evaluate", "inference", "riskmap"),
    *("segment_evaluate", "segment_inference", "exam", "exam_inference", "detector", "detector_inference", "embed"),
)
OF_FINETUNING = (
    *("cbis_masses_finetune", "linear_probe", "attentive_probe", "cnn", "library_encoder", "segment"),
    *("label_training", "package_train"),
)
OF_RISKMAP = ("serve_map", "serve_segmentation", "detect", "hard_negatives")
OF_INFERENCE = ("package_model", "serve_classification")
# ids of their own, which they read themselves or MONAI Label does
OWN = {
    "demo": {"demo_patients"},
    "barlow_twins": {"projection_sizes", "redundancy_weight"},
    "fsdp": {"shard_size"},
    "cnn": {"architecture", "weights"},
    "library_encoder": {"library", "encoder_name", "weights", "input_size"},
    "package_model": {"facts"},
    "package_train": {"facts", "ckpt_dir"},
    "label_training": {"from_label", "splits", "crop_size", "largest_crop"},
    "serve_classification": {"served", "pre_transforms", "served_steps", "load_served", "post_transforms"},
    "segment": {"feature_size", "load_mask", "masks_as_samples"},
    "detect": {
        *("boxes_csv", "split", "max_patients", "box_size", "rates", "overlaps", "num_pictures", "view_progress"),
        *("n_resamples", "confidence", "min_patients", "seed", "records", "detection"),
    },
    "hard_negatives": {"boxes_csv", "per_view", "min_probability", "view_progress", "records", "negatives"},
    "serve_segmentation": {"displayable_configs", "smallest_view"},
    "serve_map": {"smallest_view", "displayable_configs", "served", "pre_transforms", "post_transforms", "answer"},
}


def _base_of(overlay: str) -> str:
    if overlay in OF_RISKMAP:
        return "riskmap"
    if overlay in OF_INFERENCE:
        return "inference"
    return "finetune" if overlay in OF_FINETUNING else "pretrain"


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def _expressions(content: Any) -> Iterator[str]:
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _expressions(value)
    elif isinstance(content, str) and content.startswith("$") and not content.startswith("$import "):
        yield content[1:]


def _operations(expression: str) -> int:
    """Calls, comparisons, conditions and kinds of operators; a chain of one operator counts once."""
    tree = ast.parse(re.sub(r"@([\w#]+)", lambda match: "x_" + match[1].replace("#", "_"), expression), mode="eval")
    nodes = list(ast.walk(tree))
    single = sum(isinstance(node, ast.Call | ast.Compare | ast.IfExp) for node in nodes)
    return single + len({type(node.op) for node in nodes if isinstance(node, ast.BinOp | ast.BoolOp)})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_expression_is_a_value_and_not_a_program(path: Path) -> None:
    for expression in _expressions(yaml.safe_load(path.read_text())):
        assert not re.search(r"\blambda\b|\bfor\b", expression), f"{expression}: write a function with a docstring"
        limit = 2 if " if " in expression or "[1] * len(" in expression else 1
        assert _operations(expression) <= limit, f"{expression}: write a function with a docstring"


@pytest.mark.parametrize("overlay", sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in WORKFLOWS))
def test_an_overlay_names_whole_parts_that_its_workflow_has(overlay: str) -> None:
    """A top-level id, or one entry of `train` or `validate`: MONAI makes others nested in what may not be there."""
    base = _read(_base_of(overlay))
    parts = base.keys() | {f"{section}#{key}" for section in ("train", "validate") for key in base.get(section, {})}
    assert _read(overlay).keys() - OWN.get(overlay, set()) <= parts


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_referred_to_by_its_place_in_a_list(path: Path) -> None:
    assert not re.findall(r"@[\w#]*#\d+", path.read_text())


def test_texts_that_a_config_sets_to_null_can_be_null_on_the_command_line() -> None:
    contents = [_read(path.stem) for path in CONFIGS.glob("*.yaml")]
    assert set(OPTIONAL_TEXT) == {name for name in TEXT for content in contents if content.get(name, "") is None}
