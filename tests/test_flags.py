import sys

import pytest
import yaml
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow

from miram.errors import InputError
from miram.flags import TEXT, flag, given_options


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("False", False), ("false", False), ("TRUE", True), (0, False), ("yes", True)]
)
def test_flags_are_read_from_text_and_python(value, expected):
    assert flag("resume", value) is expected


@pytest.mark.parametrize("value", ["maybe", "", None, 2, 1.0])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(InputError, match="--resume"):
        flag("resume", value)


CONFIG = """
dataset_dir: $'data' + '/default'
task: pathology
monitor_task: pathology
image_size: [64, 64]
seed: 0
again: '@dataset_dir'
initialize:
  - {_target_: miram.flags.read_command_line}
run:
  - $[@dataset_dir, @task, @monitor_task, @image_size, @seed, @again]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a config with the overrides that `monai.bundle run` makes of a command line."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)

    def run(*typed):
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *typed])
        read = {name: DefaultParseValue(value or "True") for name, value in given_options(typed).items()}
        overrides = {name: value for name, value in read.items() if value is not None}  # as MONAI does
        workflow = ConfigWorkflow(str(path), meta_file=[], logging_file=False, workflow_type=None, **overrides)
        workflow.initialize()
        return dict(zip(yaml.safe_load(CONFIG), workflow.run()[0], strict=False))

    return run


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "2024_01",
            "1459541791",
            "exp#2",
            "/a/exp#2",
            "#",
            "a#b@c",
            "1e5",
            "007",
            "0x10",
            "1.10",
            "2024-01-05",
            "True",
        ),
        *("True", "None", "null", "[a,b]", "a,b", "{a: b}", "a b", "it's", "1_000", "-1", "plain/path", "a'#'b"),
    ],
)
def test_paths_and_names_arrive_as_they_were_typed(run, typed):
    found = run("--dataset_dir", typed, f"--task={typed}")
    assert (found["dataset_dir"], found["task"], found["again"]) == (typed, typed, typed)


def test_quotes_and_expressions_keep_their_meaning(run):
    assert run("--dataset_dir", "'2024_01'")["dataset_dir"] == "2024_01"
    assert run("--dataset_dir", '"a#b"')["dataset_dir"] == "a#b"
    assert run("--dataset_dir", "$'a' + 'b'", "--task", "@dataset_dir")["task"] == "ab"


def test_numbers_and_lists_stay_what_they_are(run):
    found = run("--seed", "7", "--image_size", "[32,48]")
    assert (found["seed"], found["image_size"], found["dataset_dir"]) == (7, [32, 48], "data/default")


def test_none_arrives(run):
    for word in ("None", "null"):
        found = run("--seed", word, "--monitor_task", word, f"--image_size={word}")
        assert (found["seed"], found["monitor_task"], found["image_size"]) == (None, None, None)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--dataset_dir", "--seed", "1"], "--dataset_dir has no value"),
        (["--seed", "1", "--task"], "--task has no value"),
        (["--image_size", "32"], r"--image_size is 32; give one whole number of pixels per axis"),
        (["--image_size", "[0,32]"], "--image_size is "),
        (["--image_size", "32x32"], "--image_size is '32x32'"),
        (["--image_size", "[32.5,32]"], "--image_size is "),
    ],
)
def test_what_cannot_be_meant_is_refused(run, typed, message):
    with pytest.raises(RuntimeError) as error:
        run(*typed)
    assert isinstance(error.value.__cause__, InputError)
    assert message in str(error.value.__cause__)


def test_values_that_a_program_gives_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setattr(sys, "argv", ["program", "--dataset_dir", "2024_01", "--task", "1"])
    workflow = ConfigWorkflow(
        str(tmp_path / "config.yaml"), meta_file=[], logging_file=False, workflow_type=None, dataset_dir="other"
    )
    workflow.initialize()
    assert workflow.run()[0][:2] == ["other", "pathology"]


def test_every_workflow_reads_the_command_line_first(repository):
    for path in (repository / "configs").glob("*.yaml"):
        steps = yaml.safe_load(path.read_text()).get("initialize", [])
        first = [step["_target_"] for step in steps[:2]]
        assert first in ([], ["miram.cli.explain_errors", "miram.flags.read_command_line"]), path.name


def test_every_option_whose_default_is_a_path_is_text(repository):
    for path in (repository / "configs").glob("*.yaml"):
        names = {name for name in yaml.safe_load(path.read_text()) if str(name).endswith(("_dir", "_root"))}
        assert names <= set(TEXT), path.name
