"""The picture holds what the table holds."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from studies.comparison import figure


def test_every_method_has_a_point_in_every_panel(tmp_path: Path, monkeypatch) -> None:
    rows = product(("pathology", "mass_margins"), (0.1, 1.0), ("miram", "scratch"), ("AUC", "AP"))
    table = pd.DataFrame(rows, columns=["task", "label_fraction", "method", "metric"])
    table["value"] = np.linspace(0.5, 0.9, len(table))
    table["low"], table["high"] = table["value"] - 0.1, table["value"] + 0.05
    table.loc[0, ["low", "high"]] = np.nan
    drawn = []
    monkeypatch.setattr(figure, "save_figure", lambda figure, path, dpi: drawn.append(figure))
    figure.plot_comparison(table, tmp_path / "comparison.png", "a title")
    panels = drawn[0].axes
    assert [axis.get_title() for axis in panels] == ["pathology", "mass margins", "", ""]
    assert all(len(axis.containers) == 2 for axis in panels)
    points = panels[3].containers[1].lines[0].get_ydata()
    wanted = table[(table.task == "mass_margins") & (table.metric == "AP") & (table.method == "scratch")]["value"]
    assert points.tolist() == wanted.tolist()
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["10 %", "100 %"]
