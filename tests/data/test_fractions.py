import itertools

import numpy as np
import pytest

from miram.data.fractions import take_fraction
from miram.data.tasks import Task, targets
from miram.errors import InputError

BINARY = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
LABELS = Task("marks", "multilabel", ("a", "b", "c"))


def patients(count, positive_share=0.4):
    """Two items a patient, both of one label."""
    return [
        {"image": f"{2 * n + view}.png", "patient": f"p{n}", "pathology": BINARY.classes[n < positive_share * count]}
        for n, view in itertools.product(range(count), range(2))
    ]


def chosen(items, task, fraction, seed=0):
    return {item["patient"] for item in take_fraction(items, task, fraction, seed)}


def test_patients_stay_whole_and_their_number_is_the_fraction():
    items = patients(50)
    for fraction in (0.1, 0.3, 0.5, 1.0):
        kept = take_fraction(items, BINARY, fraction)
        assert len(kept) == 2 * 50 * fraction
        assert len({item["patient"] for item in kept}) == 50 * fraction


@pytest.mark.parametrize("seed", range(5))
def test_smaller_fractions_lie_inside_larger_ones(seed):
    sets = [chosen(patients(50), BINARY, fraction, seed) for fraction in (0.05, 0.1, 0.3, 0.7, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(sets))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_classes_keep_their_shares(fraction):
    kept = take_fraction(patients(100), BINARY, fraction, seed=3)
    assert targets(kept, BINARY).mean() == pytest.approx(0.4, abs=1 / (100 * fraction))  # to one patient


def test_the_seed_decides():
    items = patients(50)
    assert chosen(items, BINARY, 0.2, seed=1) == chosen(items, BINARY, 0.2, seed=1)
    assert chosen(items, BINARY, 0.2, seed=1) != chosen(items, BINARY, 0.2, seed=2)


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_class_keeps_a_patient_where_it_can(seed):
    """One patient in 60 has c."""
    items = [
        {"image": f"{n}", "patient": f"p{n}", "marks": ["c", "a"] if n == 17 else [["a"], ["b"], ["a", "b"]][n % 3]}
        for n in range(60)
    ]
    assert targets(take_fraction(items, LABELS, 0.05, seed), LABELS).any(axis=0).all()
    assert "p17" in chosen(items, LABELS, 0.05, seed)


def test_a_fraction_that_leaves_a_class_without_a_patient_is_refused():
    with pytest.raises(InputError, match=r"label_fraction 0.02 keeps 1 of 50 patients and none with BENIGN"):
        take_fraction(patients(50), BINARY, 0.02)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_fractions_are_shares(fraction):
    with pytest.raises(InputError, match="label_fraction is"):
        take_fraction(patients(4), BINARY, fraction)


def test_the_order_of_the_items_stays():
    kept = take_fraction(patients(50), BINARY, 0.5)
    numbers = [int(item["image"].removesuffix(".png")) for item in kept]
    assert np.all(np.diff(numbers) > 0)
