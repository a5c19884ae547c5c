"""Imaginary patients: their lesions and views, and what the tables say about them, without pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from miram.generated.statistics import NOT_AVAILABLE, PATHOLOGIES, Counts, KindStatistics, Statistics

Kind = Literal["mass", "calc"]
Split = Literal["train", "test"]
Groups = tuple[tuple[Kind, Split], ...]
"""The tables that list a patient."""

Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class Finding:
    """One lesion in one view: one row of a table."""

    kind: Kind
    split: Split
    number: int
    shape: tuple[str, ...]  # the atoms of the mass shape, or of the calcification type
    margin: tuple[str, ...]  # the atoms of the mass margins, or of the calcification distribution
    pathology: str
    assessment: int
    subtlety: int
    # in the breast, the same in all views: depth from the chest wall and height, both within (-1, 1)
    position: tuple[float, float]
    radius: float  # relative to the image's height


@dataclass(frozen=True)
class View:
    """One full mammogram with its findings; the same film may be listed as a mass and as a calcification case."""

    side: Literal["LEFT", "RIGHT"]
    view: Literal["CC", "MLO"]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Case:
    """One patient."""

    number: int
    density: int  # 1 to 4
    size: tuple[int, int]  # (H, W) of her films
    views: tuple[View, ...]

    @property
    def patient(self) -> str:
        """The identifier as CBIS-DDSM writes it."""
        return f"P_{self.number:05d}"


@dataclass(frozen=True)
class CaseSettings:
    """How patients are drawn."""

    # smallest and largest height of an ordinary film, in pixels; the width is about 0.7 of the height
    height: tuple[int, int] = (760, 920)
    large_height: tuple[int, int] = (2000, 2200)  # the same for the few large films
    large_fraction: float = 0.03  # share of patients with large films, at least one patient
    both_breasts: float = 0.07  # share of patients with lesions in both breasts
    single_view: float = 0.2  # share of breasts with only one view
    more_lesions: float = 0.1  # probability of each further lesion of the same kind in a breast
    # smallest and largest radius of a lesion relative to the film's height
    radius: tuple[float, float] = (0.024, 0.066)
    margin_disagreement: float = 0.11  # share of lesions whose second view has other margins
    pathology_disagreement: float = 0.003  # share of lesions whose second view has another pathology
    # share of patients with masses among those with one kind of lesion, as in CBIS-DDSM
    mass_fraction: float = 813 / 1487
    test_fraction: float = 0.3  # share of patients in the test tables
    both_kinds: float = 0.03  # share of patients with masses and calcifications in the same split
    leak_fraction: float = 0.03  # share of patients in both a training and a test table, at least one patient
    statistics: Statistics = field(default_factory=Statistics)  # how often labels occur


def draw_cases(patients: int, seed: int, settings: CaseSettings) -> list[Case]:
    """
    Draw the patients of a data set: at least one per table, at least one who leaks, and at least one with large films.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    groups = _draw_groups(patients, settings, rng)
    large = rng.choice(patients, at_least_one(settings.large_fraction, patients), replace=False)
    numbers = 1 + np.sort(rng.permutation(patients + patients // 3)[:patients])  # gaps, as in the real list
    heights = [settings.large_height if index in large else settings.height for index in range(patients)]
    return [
        _draw_case(int(number), group, height, settings, rng)
        for number, group, height in zip(numbers, groups, heights, strict=True)
    ]


def at_least_one(fraction: float, count: int) -> int:
    """`fraction` of `count`, but at least one if the fraction is not 0."""
    return min(count, max(1, round(fraction * count))) if fraction > 0 and count else 0


def _draw_groups(patients: int, settings: CaseSettings, rng: np.random.Generator) -> list[Groups]:
    """The tables that list each patient: shares are exact, the order is shuffled."""
    leaks = at_least_one(settings.leak_fraction, patients)
    both = round(settings.both_kinds * patients)
    single = patients - leaks - both
    mass = round(settings.mass_fraction * single)
    mass_test = at_least_one(settings.test_fraction, mass)
    calc_test = at_least_one(settings.test_fraction, single - mass)
    both_test = round(settings.test_fraction * both)
    counts: list[tuple[Groups, int]] = [
        ((("mass", "test"),), mass_test),
        ((("mass", "train"),), mass - mass_test),
        ((("calc", "test"),), calc_test),
        ((("calc", "train"),), single - mass - calc_test),
        ((("mass", "test"), ("calc", "test")), both_test),
        ((("mass", "train"), ("calc", "train")), both - both_test),
        ((("mass", "train"), ("calc", "test")), leaks - leaks // 2),
        ((("mass", "test"), ("calc", "train")), leaks // 2),
    ]
    groups = [group for group, count in counts for _ in range(count)]
    return [groups[index] for index in rng.permutation(patients)]


def _draw_case(
    number: int,
    groups: Groups,
    height: tuple[int, int],
    settings: CaseSettings,
    rng: np.random.Generator,
) -> Case:
    rows = int(rng.integers(height[0], height[1] + 1))
    columns = int(rows * rng.uniform(0.58, 0.8))
    sides = ["LEFT", "RIGHT"] if rng.random() < settings.both_breasts else [str(rng.choice(["LEFT", "RIGHT"]))]
    density = _draw_key(_of(settings.statistics, groups[0][0]).density, rng)
    views = [view for side in sides for view in _draw_breast(side, groups, settings, rng)]
    return Case(number, density, (rows, columns), tuple(views))


def _draw_breast(
    side: str, groups: Sequence[tuple[Kind, Split]], settings: CaseSettings, rng: np.random.Generator
) -> list[View]:
    lesions = [
        _draw_finding(kind, split, number, settings, rng)
        for kind, split in groups
        for number in range(1, 1 + _lesion_count(settings.more_lesions, rng))
    ]
    names = [str(rng.choice(["CC", "MLO"], p=[0.4, 0.6]))] if rng.random() < settings.single_view else ["CC", "MLO"]
    views = []
    for index, name in enumerate(names):
        findings = lesions if index == 0 else [_other_view(lesion, settings, rng) for lesion in lesions]
        views.append(View(side, name, tuple(findings)))  # type: ignore[arg-type]
    return views


def _lesion_count(more: float, rng: np.random.Generator) -> int:
    return min(4, int(rng.geometric(1 - more)))


def _draw_finding(kind: Kind, split: Split, number: int, settings: CaseSettings, rng: np.random.Generator) -> Finding:
    statistics = _of(settings.statistics, kind)
    pathology = int(rng.choice(3, p=np.array(statistics.pathology) / sum(statistics.pathology)))
    smallest, largest = settings.radius
    return Finding(
        kind=kind,
        split=split,
        number=number,
        shape=_draw_atoms(statistics.shape, pathology, statistics.second_shape, rng),
        margin=_draw_atoms(statistics.margin, pathology, statistics.second_margin, rng),
        pathology=PATHOLOGIES[pathology],
        assessment=int(_draw_key({key: counts[pathology] for key, counts in statistics.assessment.items()}, rng)),
        subtlety=_draw_key(statistics.subtlety, rng),
        position=(float(rng.uniform(0.15, 0.8)), float(rng.uniform(-0.6, 0.6))),
        radius=float(smallest * (largest / smallest) ** rng.random()),
    )


def _other_view(finding: Finding, settings: CaseSettings, rng: np.random.Generator) -> Finding:
    """The same lesion in the second view: mostly the same labels, sometimes other margins, rarely another pathology."""
    statistics = _of(settings.statistics, finding.kind)
    pathology = PATHOLOGIES.index(finding.pathology)
    if rng.random() < settings.margin_disagreement:
        others = {atom: counts for atom, counts in statistics.margin.items() if (atom,) != finding.margin}
        finding = replace(finding, margin=_draw_atoms(others, pathology, 0.0, rng))
    if rng.random() < settings.pathology_disagreement:
        finding = replace(finding, pathology="BENIGN" if finding.pathology == "MALIGNANT" else "MALIGNANT")
    return finding


def _draw_atoms(counts: Counts, pathology: int, second: float, rng: np.random.Generator) -> tuple[str, ...]:
    given = {atom: rows[pathology] for atom, rows in counts.items()}
    first = _draw_key(given, rng)
    others = {atom: rows for atom, rows in given.items() if atom not in (first, NOT_AVAILABLE)}
    if first == NOT_AVAILABLE or rng.random() >= second or not sum(others.values()):
        return (first,)
    return (first, _draw_key(others, rng))


def _draw_key(counts: Mapping[Key, int], rng: np.random.Generator) -> Key:
    keys = list(counts)
    weights = np.array([counts[key] for key in keys], dtype=float)
    return keys[int(rng.choice(len(keys), p=weights / weights.sum()))]


def _of(statistics: Statistics, kind: Kind) -> KindStatistics:
    return statistics.mass if kind == "mass" else statistics.calcification
