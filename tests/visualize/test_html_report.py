import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from miram.metrics.evaluation import evaluate_predictions
from miram.visualize.html_report import INTENDED_USE, Picture, write_report

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


class Balance(HTMLParser):
    """Checks that every tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def evaluated(patients, classes=("benign", "malignant"), task_type="binary"):
    rng = np.random.default_rng(0)
    scored = classes[-1:] if task_type == "binary" else classes
    labels = np.eye(len(classes))[np.arange(patients) % len(classes)][:, -len(scored) :]
    logits = labels + rng.normal(size=labels.shape)
    odds = np.exp(logits)
    values = odds / odds.sum(1, keepdims=True) if task_type == "multiclass" else odds / (1 + odds)
    table = pd.DataFrame({"image": range(patients), "patient": range(patients)})
    table[[f"label_{name}" for name in scored]] = labels
    table[[f"prob_{name}" for name in scored]] = values
    return evaluate_predictions(table, classes, task_type, n_resamples=100)


def page(tmp_path, metrics, **arguments):
    (tmp_path / "a.png").write_bytes(PICTURE)
    values = {"title": "T", "subtitle": "S", "pictures": [Picture(tmp_path / "a.png", "a & b")], "facts": {}}
    write_report(tmp_path / "report.html", metrics=metrics, **(values | arguments))
    text = (tmp_path / "report.html").read_text()
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    return text


def test_a_page_holds_its_pictures_and_refers_to_nothing_else(tmp_path):
    text = page(tmp_path, evaluated(60))
    (source,) = re.findall(r"src='([^']*)'", text)
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PICTURE
    assert not re.search(r"https?:|<link|<script|url\(", text)
    assert "a &amp; b" in text
    assert INTENDED_USE in text


def test_values_stand_with_their_intervals(tmp_path):
    metrics = evaluated(60)
    auc = metrics["levels"]["lesion"]["metrics"]["auc"]["overall"]
    text = page(tmp_path, metrics)
    assert f"<b>{auc['value']:.3f}</b> <span class='interval'>[{auc['low']:.3f}, {auc['high']:.3f}]</span>" in text
    assert "60 images of 60 patients" in text
    assert "30 positive, 30 negative" in text


def test_a_set_too_small_for_an_interval_is_said_to_be(tmp_path):
    text = page(tmp_path, evaluated(12))
    assert "no interval<sup>1</sup>" in text
    assert "<sup>1</sup> too small for an interval: 6 positive patients of class &#x27;malignant&#x27;" in text


@pytest.mark.parametrize("task_type", ["multiclass", "multilabel"])
def test_several_classes_have_a_table_of_their_own(tmp_path, task_type):
    text = page(tmp_path, evaluated(60, ("a", "b", "<c>"), task_type))
    assert "Each class" in text
    assert text.count("<tr><th>&lt;c&gt;</th><td>20 / 40 / 0</td>") == 3
    assert "Each class" not in page(tmp_path, evaluated(60))


def test_banner_notes_and_facts_are_shown_as_text(tmp_path):
    text = page(
        tmp_path,
        evaluated(60),
        banner="<generated>",
        notes=["n & m"],
        facts={"Data": {"x": None, "y": [1.25, {"z": 2}]}},
    )
    assert "<p class='banner'>&lt;generated&gt;</p>" in text
    assert "<li>n &amp; m</li>" in text
    assert "<tr><th>x</th><td><code>not given</code></td></tr><tr><th>y</th><td><code>1.25, z: 2</code>" in text
    assert "banner'" not in page(tmp_path, evaluated(60))
