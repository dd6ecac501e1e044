"""Statistics of paired runs, each beside a closed form, scipy, or an example worked by hand."""

from __future__ import annotations

import time
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from bench.reporting.inference import bootstrap
from bench.reporting.inference.bootstrap import paired_bootstrap, seed_interval
from bench.reporting.inference.describe import interquartile_mean, mean, sd
from bench.reporting.inference.improvement import probability_of_improvement
from bench.reporting.inference.power import detectable_difference, power_of, seeds_needed
from bench.reporting.inference.ranks import mean_ranks
from bench.reporting.inference.significance import fewest_seeds, holm, luck_p, sign_flip_p
from bench.reporting.inference.targets import NEVER, Reached, performance_profile, profile_score, time_to_target
from bench.reporting.inference.tuning import best_of_repeats, pooled_luck
from bench.reporting.inference.verdicts import not_separable_from_best, verdicts

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # such as overflows


def test_mean_deviation_and_interquartile_mean_worked_by_hand() -> None:
    values = np.array([0.1, 0.2, 0.3])
    assert mean(values) == pytest.approx(0.2)
    assert sd(values) == pytest.approx(0.1)
    assert np.isnan(sd(values[:1]))
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    with pytest.raises(ValueError, match="finite"):
        mean(np.array([1.0, np.nan]))


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_the_sign_flip_test_is_that_of_scipy(n: int) -> None:
    for differences in np.random.default_rng(n).normal(0.3, 1, (5, n)).round(1):  # rounded, so that there are ties
        for one_sided, alternative in ((False, "two-sided"), (True, "greater")):
            if n == 1:
                continue
            expected = stats.permutation_test(
                (differences, np.zeros(n)),
                lambda a, b, axis: (a - b).mean(axis=axis),
                permutation_type="samples",
                vectorized=True,
                n_resamples=np.inf,
                alternative=alternative,
            ).pvalue
            assert float(sign_flip_p(differences, one_sided=one_sided)) == pytest.approx(expected)


def test_the_sign_flip_test_worked_by_hand() -> None:
    """All of 2^3 sums of 1, 2, 3 with signs: 6, 0, 2, 4 and their negatives."""
    assert float(sign_flip_p(np.array([1.0, 2, 3]))) == 2 / 8
    assert float(sign_flip_p(np.array([-1.0, 2, 3]))) == 4 / 8
    assert float(sign_flip_p(np.array([1.0, 2, 3]), one_sided=True)) == 1 / 8
    assert float(sign_flip_p(np.zeros(4))) == 1.0


def test_drawn_signs_agree_with_the_normal_approximation() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 40)
    expected = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert float(sign_flip_p(differences)) == pytest.approx(expected, abs=0.01)


def test_holm_is_closed_testing_with_bonferroni() -> None:
    """A hypothesis is rejected if every set of hypotheses that contains it is, each by the least p times its size."""
    for p in np.random.default_rng(0).uniform(0, 0.2, (20, 4)):
        sets = [list(s) for size in range(1, 5) for s in combinations(range(4), size)]
        expected = [max(min(1.0, len(s) * p[s].min()) for s in sets if i in s) for i in range(4)]
        assert holm(p) == pytest.approx(expected)
    assert holm(np.array([0.01, np.nan, 0.04]))[[0, 2]] == pytest.approx([0.02, 0.04])


def test_luck_widens_the_paired_t_test() -> None:
    differences = np.random.default_rng(0).normal(1, 1, 10)
    assert float(luck_p(differences, np.array(1e-12))) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert float(luck_p(differences, np.array(0.0))) == 0.0
    assert luck_p(differences, np.array(1.0)) > luck_p(differences, np.array(0.1))


def test_probability_of_improvement_counts_a_tie_as_half() -> None:
    found = probability_of_improvement(np.array([1.0, 1, 1, 0, 0, -1, -1, 2, 3, 4]))
    assert found.value == 0.7  # six wins and two ties
    whole = probability_of_improvement(np.array([1.0, 2, 3, -1]))
    exact = stats.binomtest(3, 4).proportion_ci()
    assert (whole.low, whole.high) == pytest.approx((exact.low, exact.high))
    assert probability_of_improvement(np.ones(10)).low == pytest.approx(0.025 ** (1 / 10))


def test_power_is_that_of_simulated_t_tests() -> None:
    draws = np.random.default_rng(0).normal(1, 1.5, (20_000, 10))
    share = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05)
    assert power_of(1, 1.5, 10) == pytest.approx(share, abs=0.01)
    assert power_of(0, 1.5, 10) == pytest.approx(0.05)


def test_detectable_difference_and_seeds_invert_each_other() -> None:
    found = detectable_difference(2.5, 10)
    assert power_of(found, 2.5, 10) == pytest.approx(0.8)
    assert seeds_needed(1, 1) == 10  # published tables for d = 1: 10 pairs
    assert seeds_needed(0.5, 1) == 34
    n = seeds_needed(1, 2.5)
    assert power_of(1, 2.5, n) >= 0.8 > power_of(1, 2.5, n - 1)
    assert detectable_difference(1, 1) == np.inf


def test_student_s_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(1, 2, 7)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    found = seed_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def _runs(generator: np.random.Generator, seeds: int, shift: float) -> list[list[np.ndarray]]:
    return [[(generator.random((200, 3)) < 0.7 + shift).astype(float)] for _ in range(seeds)]


@pytest.mark.parametrize("method", ["studentised", "bca", "percentile"])
def test_the_bootstrap_is_near_student_s_interval_for_many_seeds(method: str) -> None:
    generator = np.random.default_rng(0)
    a, b = _runs(generator, 30, 0.05), _runs(generator, 30, 0.0)
    differences = np.array([x[0].mean() - y[0].mean() for x, y in zip(a, b, strict=True)])
    found, expected = paired_bootstrap(a, b, method=method), seed_interval(differences)  # type: ignore[arg-type]
    assert found.value == pytest.approx(expected.value)
    width = (found.high - found.low) / (expected.high - expected.low)
    # Items are resampled within seeds that vary by items only, so that percentiles are sqrt(2) times as wide.
    assert width == pytest.approx(1.0 if method == "studentised" else 2**0.5, rel=0.12)
    with pytest.raises(ValueError, match="items of pair 1"):
        paired_bootstrap([a[0], [a[1][0][:5]]], b[:2])


def test_seeds_that_are_alike_have_a_finite_interval() -> None:
    """As two rows that answer alike, but for one item of one seed: resamples without that seed have no spread."""
    answers = np.random.default_rng(0).random((10, 50, 4)) < 0.8
    other = answers.copy()
    other[3, 7, 2] ^= True
    found = paired_bootstrap([[one] for one in other], [[one] for one in answers])
    differences = (other.mean(axis=(1, 2)) - answers.mean(axis=(1, 2))).astype(np.float64)
    expected = seed_interval(differences)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high)) and found.high - found.low < 0.01


def test_drawn_means_of_few_values_are_those_of_drawn_items() -> None:
    """A mean of n drawn items varies by the variance of the items over n, however they are drawn."""
    generator = np.random.default_rng(0)
    few, many = np.repeat([0.0, 0.25, 1.0], (100, 200, 700)), generator.normal(0, 1, 1000)
    for values in (few, many):
        drawn = np.concatenate([bootstrap._drawn_means(values, generator) for _ in range(40)])
        assert drawn.mean() == pytest.approx(values.mean(), abs=0.002)
        assert drawn.std() == pytest.approx(values.std() / np.sqrt(1000), rel=0.03)


def test_the_bootstrap_of_many_tasks_and_items_takes_a_moment() -> None:
    generator = np.random.default_rng(0)
    a, b = ([[generator.random((20_000, 40)) < 0.9] for _ in range(6)] for _ in range(2))
    start = time.process_time()
    paired_bootstrap(a, b)
    assert time.process_time() - start < 2  # 13 s if each item is drawn for each task


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_studentised_bootstrap_holds_its_level(n: int) -> None:
    """With half of the variance from seeds, which are skewed, and half from 60 test items."""
    generator, covered = np.random.default_rng(n), 0
    for _ in range(60):
        effects = 0.05 * (generator.exponential(1, n) - 1)
        a = [[(generator.random((60, 1)) < 0.7 + effect).astype(float)] for effect in effects]
        b = [[(generator.random((60, 1)) < 0.7).astype(float)] for _ in range(n)]
        found = paired_bootstrap(a, b)
        covered += found.low <= 0 <= found.high
    assert covered >= stats.binom.ppf(0.001, 60, 0.95)


def test_means_that_only_rounding_tells_apart_share_their_rank() -> None:
    """The sums of 0.1, 0.2 and 0.3 differ by their order, in the last bit."""
    scores = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.0, 0.0, 0.0]])
    assert scores[0].mean() != scores[1].mean()
    assert [row.rank.value for row in mean_ranks([scores]) if row.rank] == [1.5, 1.5, 3.0]


def test_ranks_worked_by_hand_and_missing_rows_named() -> None:
    first = np.array([[3.0, 3], [2, 2], [1, 1], [9, np.nan]])
    second = np.array([[1.0, 1], [1, 1], [-np.inf, 5], [7, 7]])
    a, b, c, d = mean_ranks([first, second])
    assert a.rank and b.rank and c.rank
    assert (a.rank.value, b.rank.value, c.rank.value) == ((1 + 1.5) / 2, (2 + 1.5) / 2, 3.0)
    assert d.rank is None and d.lacking == (0,)
    assert (c.rank.low, c.rank.high) == (3.0, 3.0)


def test_time_to_target_and_profile_worked_by_hand() -> None:
    steps, seconds, scores = np.array([1.0, 2, 3]), np.array([10.0, 20, 30]), np.array([np.nan, 0.5, 0.6])
    assert time_to_target(steps, seconds, scores, 0.5) == Reached(2.0, 20.0)
    assert time_to_target(steps, seconds, scores, 0.7) == NEVER
    times = np.array([[1.0, 2, np.inf], [3, 1, 2], [np.inf, np.inf, np.inf]])
    profile = performance_profile(times, np.array([1.0, 2, 3, 4]))
    assert profile * 3 == pytest.approx(np.array([[1, 1, 2, 2], [1, 2, 2, 2], [0, 1, 1, 1]]))
    grid = np.linspace(1, 4, 30_001)
    assert profile_score(times) == pytest.approx(performance_profile(times, grid).mean(axis=1), abs=1e-3)
    with pytest.raises(ValueError, match="leave these rows out"):
        performance_profile(np.array([[1.0, np.nan]]), grid)


def test_the_best_over_repeats_of_the_tuning_is_that_of_all_repeats() -> None:
    scores = np.array([0.3, 0.9, 0.1, 0.5])
    best = [max(0.3, *(scores[1:][i] for i in draw)) for draw in product(range(3), repeat=3)]
    found_mean, found_sd = best_of_repeats(scores)
    assert (float(found_mean), float(found_sd)) == pytest.approx((np.mean(best), np.std(best)))
    assert float(pooled_luck(np.array([[0.5, 0.1, 0.2, 0.3]]))) == 0.0  # the default is always the best


def test_verdicts_on_clear_cases() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (7, 10))
    scores = noise + np.array([0.0, 1, 2, 0.6, 0, -1, 3])[:, None] + np.arange(10)
    scores[6, 5:] = np.nan
    words = [str(v) for v in verdicts(scores, ew=0, tuned=1)]
    assert words == [
        "", "better than EW", "better than tuned EW", "better than EW", "worse", "worse", "too few seeds (5)"
    ]  # fmt: skip
    assert not_separable_from_best(scores).tolist() == [False, False, True, False, False, False, False]
    untuned = [str(v) for v in verdicts(scores, ew=0, tuned=None)]
    assert untuned[2] == "better than EW" and untuned[4] == "not separable" and untuned[0] == ""
    assert str(verdicts(scores, 0, 1, luck=np.full(7, 5.0))[2]) == "not separable"
    with pytest.raises(ValueError, match="inf"):
        verdicts(np.array([[1.0, np.inf]]), None, None)


def test_fewest_seeds_is_the_limit_of_the_verdicts() -> None:
    for rows in (1, 9, 20):
        n = fewest_seeds(rows, 0.05)
        scores = np.concatenate([np.zeros((1, n)), np.ones((rows, n))])
        assert all(v.word == "better than EW" for v in verdicts(scores, 0, None)[1:])
        assert all(v.word == "too few seeds" for v in verdicts(scores[:, 1:], 0, None)[1:])


def test_the_truly_best_row_keeps_its_mark() -> None:
    generator, lost = np.random.default_rng(0), 0
    for _ in range(400):  # all rows are equally good, so that the observed best is so by luck
        lost += not not_separable_from_best(generator.normal(0, 1, (8, 10)))[0]
    assert lost <= stats.binom.ppf(0.999, 400, 0.05)
