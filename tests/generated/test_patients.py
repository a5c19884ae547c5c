from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from miram.generated.patients import CaseSettings, draw_cases


@pytest.fixture(scope="module")
def cases():
    return draw_cases(1200, 3, CaseSettings())


def findings(cases):
    return [finding for case in cases for view in case.views for finding in view.findings]


def lesions(cases):
    """Finding by finding number in each view: (patient, side, kind, number) -> findings of its views."""
    found = {}
    for case in cases:
        for view in case.views:
            for finding in view.findings:
                found.setdefault((case.patient, view.side, finding.kind, finding.number), []).append(finding)
    return found


def tables_of(case):
    """The tables that list a patient."""
    return {(finding.kind, finding.split) for finding in findings([case])}


def test_every_table_has_patients_even_in_the_smallest_set():
    groups = [tables_of(case) for case in draw_cases(5, 0, CaseSettings())]
    assert {group for each in groups for group in each} == {
        (kind, split) for kind in ("mass", "calc") for split in ("train", "test")
    }
    assert sum(len({split for _, split in each}) == 2 for each in groups) == 1


def test_shares_of_test_and_leaking_patients_are_kept(cases):
    splits = [{split for _, split in tables_of(case)} for case in cases]
    assert sum(len(each) == 2 for each in splits) == 36  # 3 %
    assert sum(each == {"test"} for each in splits) / len(cases) == pytest.approx(0.3, abs=0.02)
    assert len({case.patient for case in cases}) == 1200


def test_labels_follow_the_tables_frequencies(cases):
    masses = [finding for finding in findings(cases) if finding.kind == "mass"]
    malignant = Counter(finding.pathology for finding in masses)["MALIGNANT"] / len(masses)
    spiculated = [finding.pathology == "MALIGNANT" for finding in masses if "SPICULATED" in finding.margin]
    # Standard errors are about 0.02: 1,500 masses in two views each.
    assert malignant == pytest.approx(784 / 1696, abs=0.05)
    assert np.mean(spiculated) == pytest.approx(360 / 407, abs=0.06)


def test_views_of_a_lesion_disagree_as_often_as_asked(cases):
    pairs = [views for views in lesions(cases).values() if len(views) == 2]
    margins = np.mean([first.margin != second.margin for first, second in pairs])
    pathology = np.mean([first.pathology != second.pathology for first, second in pairs])
    assert margins == pytest.approx(0.11, abs=0.025)
    assert 0 < pathology < 0.01


def test_some_films_show_several_lesions_and_a_few_are_large(cases):
    assert 0.05 < np.mean([len(view.findings) > 1 for case in cases for view in case.views]) < 0.25
    assert sum(case.size[0] >= 2000 for case in cases) == 36


def test_labels_say_much_about_malignancy_but_not_all(cases):
    drawn = findings(cases)
    atoms = sorted({(f.kind, atom) for f in drawn for atom in f.shape + f.margin})
    table = np.array([[f.kind == kind and atom in f.shape + f.margin for kind, atom in atoms] for f in drawn])
    malignant = np.array([f.pathology == "MALIGNANT" for f in drawn])
    half = len(drawn) // 2
    model = LogisticRegression(max_iter=1000).fit(table[:half], malignant[:half])
    score = roc_auc_score(malignant[half:], model.predict_proba(table[half:])[:, 1])
    assert 0.8 < score < 0.92


def test_size_and_subtlety_say_nothing_about_malignancy(cases):
    drawn = [finding for finding in findings(cases) if finding.kind == "mass"]
    malignant = [finding.pathology == "MALIGNANT" for finding in drawn]
    # 0.05 is about three standard errors for 750 lesions.
    assert roc_auc_score(malignant, [finding.radius for finding in drawn]) == pytest.approx(0.5, abs=0.05)
    assert roc_auc_score(malignant, [finding.subtlety for finding in drawn]) == pytest.approx(0.5, abs=0.05)


def test_another_seed_gives_other_patients():
    assert draw_cases(10, 1, CaseSettings()) == draw_cases(10, 1, CaseSettings())
    assert draw_cases(10, 1, CaseSettings()) != draw_cases(10, 2, CaseSettings())
