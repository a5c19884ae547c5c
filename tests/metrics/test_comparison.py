import numpy as np
import pytest
from scipy import stats

from miram.errors import InputError
from miram.metrics.bootstrap import Bootstrap, Estimate
from miram.metrics.comparison import Method, average_over_seeds, compare, verdict
from miram.metrics.evaluation import evaluate_predictions
from miram.metrics.scores import OVERALL

from .tables import make_table

BOOTSTRAP = Bootstrap(n_resamples=500)
KEY = ("auc", OVERALL)


def make_method(name, seeds, **options):
    return Method(name, [make_table("binary", seed=seed, **options)[0] for seed in seeds])


def run(first, second, **options):
    return compare(first, second, ["positive"], "binary", bootstrap=BOOTSTRAP, **options)


def test_a_method_against_itself_differs_by_exactly_nothing():
    method = make_method("one", [0])
    difference = run(method, method)[KEY]
    assert difference.value == 0
    assert difference.reason.startswith("every resample has the same value")


def test_the_difference_is_that_of_the_values_and_changes_sign_with_the_order():
    good, poor = make_method("good", [0], signal=3.0), make_method("poor", [1], signal=0.5)
    difference, reverse = run(good, poor)[KEY], run(poor, good)[KEY]
    values = [
        evaluate_predictions(method.predictions[0], ["positive"], "binary", n_resamples=10, levels=["lesion"])[
            "levels"
        ]["lesion"]
        for method in (good, poor)
    ]
    expected = values[0]["metrics"]["auc"]["overall"]["value"] - values[1]["metrics"]["auc"]["overall"]["value"]
    assert difference.value == pytest.approx(expected)
    assert difference.low > 0
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_pairing_makes_the_interval_of_like_methods_narrow():
    """Two methods whose scores differ by a little noise: the same patients are drawn for both."""
    one = make_table("binary")[0]
    noise = np.random.default_rng(0).normal(scale=0.01, size=len(one))
    other = one.assign(prob_positive=(one["prob_positive"] + noise).clip(0, 1))
    paired = run(Method("one", [one]), Method("other", [other]))[KEY]
    single = average_over_seeds(Method("one", [one]), ["positive"], "binary", bootstrap=BOOTSTRAP)[KEY]
    assert paired.high - paired.low < 0.2 * (single.high - single.low)


def test_rows_may_come_in_any_order():
    first, second = make_method("one", [0]), make_method("two", [1])
    shuffled = Method("two", [second.predictions[0].sample(frac=1, random_state=0)])
    assert run(first, second)[KEY] == run(first, shuffled)[KEY]


def test_seeds_are_averaged_and_their_scatter_widens_the_interval():
    """Three seeds of different quality on the same patients, against one seed thrice."""
    strong, weak = make_table("binary", seed=0, signal=4.0)[0], make_table("binary", seed=0, signal=0.2)[0]
    middle = make_table("binary", seed=0, signal=1.5)[0]
    scattered = average_over_seeds(Method("m", [strong, middle, weak]), ["positive"], "binary", bootstrap=BOOTSTRAP)[
        KEY
    ]
    steady = average_over_seeds(Method("m", [middle] * 3), ["positive"], "binary", bootstrap=BOOTSTRAP)[KEY]
    single = average_over_seeds(Method("m", [middle]), ["positive"], "binary", bootstrap=BOOTSTRAP)[KEY]
    assert (steady.low, steady.high) == pytest.approx((single.low, single.high))
    assert scattered.high - scattered.low > 1.5 * (steady.high - steady.low)
    values = [
        average_over_seeds(Method("m", [table]), ["positive"], "binary", bootstrap=BOOTSTRAP)[KEY].value
        for table in (strong, middle, weak)
    ]
    assert scattered.value == pytest.approx(np.mean(values))


def test_tables_that_are_all_that_there_are_do_not_widen_the_interval():
    strong, weak = make_table("binary", seed=0, signal=4.0)[0], make_table("binary", seed=0, signal=0.2)[0]
    both = Method("m", [strong, weak])
    drawn, fixed = (
        average_over_seeds(both, ["positive"], "binary", bootstrap=BOOTSTRAP, draw_seeds=draw)[KEY]
        for draw in (True, False)
    )
    assert drawn.value == fixed.value
    assert fixed.high - fixed.low < 0.7 * (drawn.high - drawn.low)
    weaker = Method("w", [weak, weak])
    differences = [run(both, weaker, draw_seeds=draw)[KEY] for draw in (True, False)]
    assert differences[1].high - differences[1].low < 0.7 * (differences[0].high - differences[0].low)


def test_the_interval_over_seeds_has_an_unbiased_variance():
    """Brier scores by hand: seeds whose error is a constant, so that only the drawing of seeds varies."""
    table = make_table("binary", unknown=0.0)[0]
    tables = [
        table.assign(prob_positive=np.where(table["label_positive"] == 1, 1 - error, error))
        for error in (0.1, 0.2, 0.4)
    ]
    options = Bootstrap(n_resamples=20_000, confidence=0.5)
    found = average_over_seeds(Method("m", tables), ["positive"], "binary", bootstrap=options)["brier", OVERALL]
    errors = np.array([0.01, 0.04, 0.16])
    assert found.value == pytest.approx(errors.mean())
    # Two of three are drawn with replacement: nine equally likely means, of variance s^2 / 3 with s^2 unbiased.
    means = (errors[:, None] + errors).ravel() / 2
    assert means.var() == pytest.approx(errors.var(ddof=1) / 3)
    assert (found.low, found.high) == pytest.approx((np.sort(means)[2], np.sort(means)[6]))


def test_the_paired_interval_covers_a_true_difference_of_nothing():
    """Two methods that are equally good, scores correlated, two views a patient: 0 is inside 95 % of intervals."""
    data_sets, inside = 120, 0
    for seed in range(data_sets):
        first, second = (
            make_method("one", [2 * seed + 100], patients=80),
            make_method("two", [2 * seed + 101], patients=80),
        )
        options = Bootstrap(n_resamples=300, seed=seed)
        difference = compare(first, second, ["positive"], "binary", bootstrap=options)[KEY]
        inside += difference.low <= 0 <= difference.high
    # 99.9 % of binomial counts at 93 to 97 %: labels are fixed over data sets and the sets are small.
    low, high = stats.binom.ppf(0.0005, data_sets, 0.93), stats.binom.ppf(0.9995, data_sets, 0.97)
    assert low <= inside <= high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[1:], "images differ"),
        (lambda table: table.assign(image=table["image"] + "x"), "images differ"),
        (lambda table: table.assign(label_positive=1 - table["label_positive"]), "labels differ"),
        (lambda table: table.assign(patient="p" + table["patient"]), "patients differ"),
        (lambda table: table.assign(lesion="l" + table["lesion"]), "lesions differ"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(change, message):
    table = make_table("binary")[0]
    with pytest.raises(InputError, match=f"one, seed 0 and of two, seed 0 do not match: their {message}"):
        run(Method("one", [table]), Method("two", [change(table)]))


def test_unequal_seeds_and_missing_tables_are_refused():
    with pytest.raises(InputError, match="one has 1 seeds and two 2"):
        run(make_method("one", [0]), make_method("two", [0, 1]))
    with pytest.raises(InputError, match="none has no predictions"):
        average_over_seeds(Method("none", []), ["positive"], "binary")
    with pytest.raises(InputError, match="bca"):
        average_over_seeds(make_method("one", [0]), ["positive"], "binary", bootstrap=Bootstrap(method="bca"))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.05, "superior"),
        (-0.019, 0.05, "not inferior"),
        (-0.019, -0.001, "not inferior"),
        (-0.02, 0.05, "inconclusive"),
        (-0.05, -0.021, "inferior"),
        (None, None, "no interval"),
    ],
)
def test_verdict_against_a_margin_of_two_hundredths(low, high, expected):
    assert verdict(Estimate(0.0, low, high, 1, 1, 1, 0), 0.02) == expected


def test_a_negative_margin_is_refused():
    with pytest.raises(InputError, match="positive"):
        verdict(Estimate(0.0, 0.0, 0.0, 1, 1, 1, 0), -0.02)
