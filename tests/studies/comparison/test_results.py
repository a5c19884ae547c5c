"""The table from made-up predictions, and its three forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from miram.metrics.bootstrap import Bootstrap
from miram.provenance.description import describe_file
from studies.comparison import comparison_page
from studies.comparison.comparison_page import write_comparison
from studies.comparison.plan import make_plan
from studies.comparison.results import comparison_table
from studies.comparison.run import run_plan
from studies.comparison.settings import check_data

SIGNAL = {"miram": 3.0, "mae": 3.0, "scratch": 0.0, "floor": 0.5}
CNN = 2.0


def made_up(stub):
    """A runner whose predictions are better the more a method is said to see; MAE's are MIRAM's."""

    def run(step, settings, lane):
        if step.stage != "floor":
            stub()(step, settings, lane)
        if step.is_result:
            random = np.random.default_rng(step.seed)
            labels = np.arange(24) % 2
            logits = random.normal(size=24) + SIGNAL.get(step.method, CNN) * (labels - 0.5)
            names = {"image": [f"i{n}" for n in range(24)], "patient": range(24), "lesion": range(24)}
            table = pd.DataFrame({**names, "label_MALIGNANT": labels, "prob_MALIGNANT": 1 / (1 + np.exp(-logits))})
            if step.fold:
                table = table[table["patient"] % settings.folds == int(step.fold.split("_")[1]) - 1]
            table.to_csv(settings.output_dir / step.name / "predictions.csv", index=False)

    return run


@pytest.fixture(autouse=True)
def _quickly_counted(monkeypatch) -> None:
    """Operations in proportion to the images; test_cost.py counts those of networks."""
    monkeypatch.setattr(
        "studies.comparison.results.pretraining_flops",
        lambda plan, method, datalists: float(len(next(iter(datalists.values()))["training"])),
    )


@pytest.fixture
def compared(settings, stub):
    settings = replace(settings, methods=tuple(SIGNAL), label_fractions=(1.0,))
    plan = make_plan(settings)
    run_plan(plan, settings, runner=made_up(stub))
    return settings, comparison_table(plan, settings, bootstrap=Bootstrap(n_resamples=200))


def row_of(table, method, reference, metric):
    rows = table[(table["method"] == method) & (table["reference"] == reference) & (table["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize(("metric", "score"), [("AUC", roc_auc_score), ("AP", average_precision_score)])
def test_means_are_those_of_the_seeds(compared, metric, score) -> None:
    settings, table = compared
    folder = settings.output_dir / "evaluate/scratch/pathology/fraction_1"
    runs = [pd.read_csv(folder / f"seed_{seed}/predictions.csv") for seed in (0, 1)]
    expected = np.mean([score(run["label_MALIGNANT"], run["prob_MALIGNANT"]) for run in runs])
    row = row_of(table, "scratch", "", metric)
    assert row["value"] == pytest.approx(expected)
    assert row["low"] < expected < row["high"]
    assert (row["seeds"], row["patients"], row["units"], row["finetuning_seconds"]) == (2, 24, 24, 8.0)


def test_predictions_of_the_folds_make_one_table(settings, stub, compared) -> None:
    settings = replace(settings, methods=("miram", "scratch"), label_fractions=(1.0,), folds=3)
    plan = make_plan(settings)
    run_plan(plan, settings, runner=made_up(stub))
    table = comparison_table(plan, settings, bootstrap=Bootstrap(n_resamples=200))
    for method, reference in (("miram", ""), ("miram", "scratch"), ("scratch", "")):
        pooled, whole = (row_of(each, method, reference, "AUC") for each in (table, compared[1]))
        columns = ["value", "low", "high", "units", "patients", "seeds"]
        assert pooled[columns].tolist() == pytest.approx(whole[columns].tolist(), nan_ok=True)
    assert table["pretraining_flops"].max() < compared[1]["pretraining_flops"].max()  # fewer patients
    paths = write_comparison(table, settings, check_data(settings))
    assert paths[1].name == "comparison_3_folds.md"
    assert "3-fold cross-validation over the patients of small, per lesion." in paths[1].read_text()


def test_modes_and_shares_of_labels_are_rows_of_one_table(settings, stub) -> None:
    methods = ("miram", "scratch", "cnn", "floor")
    settings = replace(settings, methods=methods, modes=("finetune", "attentive_probe"), label_fractions=(0.1, 1.0))
    plan = make_plan(settings)
    run_plan(plan, settings, runner=made_up(stub))
    table = comparison_table(plan, settings, bootstrap=Bootstrap(n_resamples=50))
    judged = table[table["reference"] == ""].groupby(["label_fraction", "mode"])["method"].unique()
    probed = ["miram", "scratch"]  # the others have no features
    assert {key: list(names) for key, names in judged.items()} == {
        (share, mode): list(methods) if mode == "finetune" else probed
        for share in (0.1, 1.0)
        for mode in settings.modes
    }
    assert set(table[table["mode"] == "attentive_probe"]["reference"]) == {"", "scratch"}
    paths = write_comparison(table, settings, check_data(settings))
    assert paths[1].name == "comparison_finetune_attentive_probe.md"
    text = paths[1].read_text()
    assert text.count("| miram | ") == text.count("| miram, attentive probe | ") == 2
    assert "10 % of the labels" in text


def test_differences_are_paired_and_judged(compared) -> None:
    _, table = compared
    gain = row_of(table, "miram", "scratch", "AUC")
    means = [row_of(table, name, "", "AUC")["value"] for name in ("miram", "scratch")]
    assert gain["value"] == pytest.approx(means[0] - means[1])
    assert gain["low"] > 0
    assert gain["verdict"] == "superior"
    same = row_of(table, "miram", "mae", "AUC")
    assert same["value"] == 0
    assert same["verdict"] == "no interval"  # every resample gives 0
    assert row_of(table, "scratch", "mae", "AUC")["verdict"] == "inferior"
    assert row_of(table, "floor", "mae", "AP")["verdict"] == ""
    assert not ((table["method"] == "mae") & (table["reference"] == "mae")).any()


def test_files_say_whether_it_is_a_demonstration(compared) -> None:
    settings, table = compared
    paths = write_comparison(table, settings, check_data(settings), provenance={"commit": "abc"})
    assert [path.name for path in paths] == [f"comparison.{suffix}" for suffix in ("csv", "md", "png", "json")]
    assert describe_file(paths[3])["provenance"] == {"commit": "abc"}
    assert len(pd.read_csv(paths[0])) == len(table)
    text = paths[1].read_text()
    assert "A demonstration on generated data" in text
    assert "| method | AUC | AP | AUC - mae | AP - mae | AUC - scratch | AP - scratch | pretraining" in text
    gain = row_of(table, "miram", "scratch", "AUC")
    assert f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] superior" in text
    assert "| +0.000 (no interval) |" in text  # MIRAM less MAE: every resample gives 0
    assert "No interval: every resample has the same value" in text
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    probed = replace(settings, modes=("linear_probe",), folds=5)
    real = write_comparison(table, probed, {"name": "real", "generated": False})
    assert real[0].name == "comparison_linear_probe_5_folds.csv"
    assert "patients of real, linear probe, per lesion" in real[1].read_text()
    write_comparison(table, settings, {"name": "real", "generated": False})
    assert "demonstration" not in paths[1].read_text()


def test_every_method_has_a_point_in_every_panel(tmp_path: Path, monkeypatch) -> None:
    rows = product(("pathology", "mass_margins"), (0.1, 1.0), ("miram", "scratch"), ("AUC", "AP"))
    table = pd.DataFrame(rows, columns=["task", "label_fraction", "method", "metric"])
    table["value"] = np.linspace(0.5, 0.9, len(table))
    table["low"], table["high"] = table["value"] - 0.1, table["value"] + 0.05
    table.loc[0, ["low", "high"]] = np.nan
    drawn = []
    monkeypatch.setattr(comparison_page, "save_figure", lambda figure, path, dpi: drawn.append(figure))
    comparison_page.plot_comparison(table, tmp_path / "comparison.png", "a title")
    panels = drawn[0].axes
    assert [axis.get_title() for axis in panels] == ["pathology", "mass margins", "", ""]
    assert all(len(axis.containers) == 2 for axis in panels)
    points = panels[3].containers[1].lines[0].get_ydata()
    wanted = table[(table.task == "mass_margins") & (table.metric == "AP") & (table.method == "scratch")]["value"]
    assert points.tolist() == wanted.tolist()
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["10 %", "100 %"]
