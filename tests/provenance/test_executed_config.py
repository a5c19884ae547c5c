import pytest
import yaml
from monai.bundle import ConfigParser

from miram.errors import InputError
from miram.provenance.executed_config import check_options, save_executed_config


def test_the_executed_config_holds_overrides_and_unresolved_expressions(tmp_path):
    parser = ConfigParser(
        {
            "width": 3,
            "double": "$2 * @width",
            "train": {"size": "@double"},
            "save": {"_target_": "miram.provenance.save_executed_config", "output_dir": str(tmp_path)},
        }
    )
    parser.update({"width": 5})
    parser.get_parsed_content("save")
    saved = yaml.safe_load((tmp_path / "executed_config.yaml").read_text())
    assert (saved["width"], saved["double"]) == (5, "$2 * @width")


def test_with_an_engine_the_config_is_written_when_it_starts(tmp_path):
    save = {"_target_": "miram.provenance.save_executed_config", "output_dir": str(tmp_path), "engine": "@loop"}
    loop = {"_target_": "ignite.engine.Engine", "process_function": "$lambda engine, batch: None"}
    parser = ConfigParser({"loop": loop, "save": save})
    parser.get_parsed_content("save")
    assert list(tmp_path.iterdir()) == []
    parser.get_parsed_content("loop").run([0])
    assert (tmp_path / "executed_config.yaml").is_file()


def test_outside_a_config_there_is_nothing_to_save(tmp_path):
    with pytest.raises(InputError, match="initialize"):
        save_executed_config(tmp_path)


def test_an_option_that_nothing_reads_is_refused_with_the_one_it_is_like():
    config = {"max_epochs": 3, "seed": 0, "train": {"trainer": {"max_epochs": "@max_epochs", "seed": "$@seed + 1"}}}
    check_options(
        {**config, "picture_interval": 2}, ["run", "training", "--max_epochs", "3", "--config_file", "a.yaml"]
    )
    with pytest.raises(InputError, match=r"--max_epoch is not an option of this workflow; did you mean --max_epochs\?"):
        check_options({**config, "max_epoch": 1}, ["--max_epoch", "1"])
    with pytest.raises(InputError, match="--zzz is not an option"):
        check_options({**config, "zzz": "text"}, ["--zzz=text"])


def test_an_option_that_other_options_replace_is_left_out_with_a_warning(tmp_path, caplog):
    file = tmp_path / "a.yaml"
    file.write_text("runs_dir: runs\noutput_dir: $@runs_dir + '/one'\nsave: '@output_dir'\n")
    config = {"runs_dir": "other", "output_dir": "here", "save": "@output_dir"}
    arguments = ["run", "--config_file", f"['{file}']", "--runs_dir", "other", "--output_dir", "here"]
    check_options(config, arguments)
    assert "--runs_dir has no effect here: --output_dir says it instead" in caplog.text
    with pytest.raises(InputError, match="--run_dir is not an option of this workflow"):
        check_options(config | {"run_dir": "other"}, [*arguments, "--run_dir", "other"])
