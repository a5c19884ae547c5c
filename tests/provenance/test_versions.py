import subprocess

import monai
import torch
from monai.bundle import ConfigParser

import miram
from miram.provenance.versions import _commit, provenance


def test_versions_and_facts_are_plain_values(tmp_path):
    facts = provenance(seed=3)
    assert facts["seed"] == 3
    assert facts["miram"] == miram.__version__
    assert (facts["libraries"]["monai"], facts["libraries"]["torch"]) == (monai.__version__, torch.__version__)
    assert facts["libraries"].keys() >= {"numpy", "pydicom", "pytorch-ignite"}
    torch.save(facts, tmp_path / "facts.pt")
    assert torch.load(tmp_path / "facts.pt", weights_only=True) == facts


def test_the_config_is_known_by_the_hash_of_the_executed_one(tmp_path):
    def digest(seed):
        config = {"seed": seed, "provenance": {"_target_": "miram.provenance.provenance", "seed": "@seed"}}
        return ConfigParser(config).get_parsed_content("provenance")["config_sha256"]

    assert len(digest(1)) == 64
    assert digest(1) == digest(1) != digest(2)
    assert provenance()["config_sha256"] is None


def commit_in(folder, monkeypatch, *commands):
    (folder / "package").mkdir(parents=True)
    (folder / "package/__init__.py").write_text("")
    for command in ("init -q", "config user.email a@b.c", "config user.name a", *commands):
        subprocess.run(["git", "-C", str(folder), *command.split()], check=True)
    monkeypatch.setattr(miram, "__file__", str(folder / "package/__init__.py"))


def test_the_commit_says_if_the_checkout_was_changed(tmp_path, monkeypatch):
    commit_in(tmp_path / "own", monkeypatch, "add .", "commit -qm one")
    clean = _commit()
    assert len(clean) == 40
    (tmp_path / "own/package/__init__.py").write_text("changed = True")
    assert _commit() == f"{clean}-dirty"


def test_a_package_that_lies_in_the_checkout_of_something_else_has_no_commit(tmp_path, monkeypatch):
    commit_in(tmp_path / "other", monkeypatch, "commit -q --allow-empty -m one")
    assert _commit() is None
