"""One simulated study after another: trials are drawn, tuned, run with several seeds, and judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.analyses.error_rates.pools import Pool
from bench.reporting.inference.describe import LEVEL, Array
from bench.reporting.inference.tuning import pooled_luck
from bench.reporting.inference.verdicts import Verdict, not_separable_from_best, verdicts

EW, TUNED, PLANTED = 0, 1, 2  # rows; all further ones are methods, too
SMOOTH = 0.5  # width of the normal noise around a resampled value, as a share of the pool's standard deviation
BETTER = ("better than EW", "better than tuned EW")


@dataclass(frozen=True)
class Design:
    """methods: that are tuned, with tuned EW; trials: of each, the first with default settings; seeds: of each row."""

    methods: int = 9
    trials: int = 12
    seeds: int = 10
    level: float = LEVEL
    luck: bool = True


@dataclass(frozen=True)
class Scenario:
    """What is true. settings_matter: trials differ in their expected score. difference: by which PLANTED is better."""

    settings_matter: bool
    difference: float = 0.0


@dataclass(frozen=True)
class Tally:
    """What was found in a number of simulations, each a count of simulations but for the last two.

    false_ew: some row is called better than EW whose selected settings are not.
    false_tuned: some row is called better than tuned EW whose selected settings are not, or not better than EW.
    false_either: one of the two.
    lucky: some row that is not PLANTED is called better than tuned EW. All their methods are equal.
    worse: some row that is not PLANTED is called worse.
    found, found_tuned: PLANTED is called better than EW or tuned EW; better than tuned EW.
    best_lost: the row with the highest expected score is marked as separable from the best.
    marked: rows not separable from the best, over all simulations. gained: of tuning, summed: tuned EW's expected score
        over that of EW.
    """

    simulations: int = 0
    false_ew: int = 0
    false_tuned: int = 0
    false_either: int = 0
    lucky: int = 0
    worse: int = 0
    found: int = 0
    found_tuned: int = 0
    best_lost: int = 0
    marked: int = 0
    gained: float = 0.0


def simulate(pool: Pool, design: Design, scenario: Scenario, simulations: int, seed: int) -> Tally:
    """The tally of some simulated studies; the same for the same arguments."""
    generator = np.random.default_rng(seed)
    expected, luck = _tuned(pool, design, scenario, simulations, generator)
    scores = _reported(pool, design, expected, generator)
    totals = np.sum([one for one in _judged(scores, expected, luck, design)], axis=0)
    counts = dict(zip(list(Tally.__dataclass_fields__)[1:-1], map(int, totals), strict=True))
    return Tally(simulations, **counts, gained=float((expected[:, TUNED] - expected[:, EW]).sum()))


def _tuned(
    pool: Pool, design: Design, scenario: Scenario, simulations: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Expected scores (simulations, rows) of the settings of EW and of those that validation selects for each method.

    The second array is the spread over repeats of the tuning that the same trials show.

    The settings of all methods are drawn from one distribution. The first trial has the default settings.
    """
    shape = (simulations, design.methods, design.trials)
    effects = np.zeros(shape)
    if scenario.settings_matter:
        centre = pool.effects.mean()
        effects += centre + _resampled(pool.effects - centre, shape, generator)
    effects[:, :, 0] = 0.0
    if design.methods >= PLANTED:
        effects[:, PLANTED - 1] += scenario.difference
    noise = _resampled(pool.validation.ravel(), (*shape, pool.tuning_seeds), generator)
    seen = _rounded(effects + noise.mean(axis=-1), pool.validation_grid / pool.tuning_seeds)
    best = seen.argmax(axis=2)[:, :, None]  # the first of equal ones
    selected = np.take_along_axis(effects, best, axis=2)[:, :, 0]
    untuned = np.zeros((simulations, 1))
    spread = np.zeros_like(selected)
    if design.luck:
        spread += pooled_luck(seen)[:, None]
    return np.concatenate([untuned, selected], axis=1), np.concatenate([untuned, spread], axis=1)


def _reported(pool: Pool, design: Design, expected: Array, generator: np.random.Generator) -> Array:
    """Test scores (simulations, rows, seeds): a seed has one effect on all rows; a row varies like a real one."""
    simulations, rows = expected.shape
    common = _resampled(pool.common, (simulations, 1, design.seeds), generator)
    sources = generator.integers(0, len(pool.rows), (simulations, rows))
    drawn = generator.integers(0, len(pool.seeds), (simulations, rows, design.seeds))
    own = pool.test[sources[:, :, None], drawn]
    widths = np.sqrt(np.mean(pool.test**2, axis=1))[sources][:, :, None]
    varied = (own + SMOOTH * widths * generator.standard_normal(own.shape)) / np.sqrt(1 + SMOOTH**2)
    return _rounded(expected[:, :, None] + common + varied, pool.test_grid)


def _resampled(values: Array, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Draws from values (any,) with mean zero, smoothed without a change of their variance."""
    noise = SMOOTH * values.std() * generator.standard_normal(shape)
    return np.asarray((generator.choice(values, shape) + noise) / np.sqrt(1 + SMOOTH**2))


def _rounded(scores: Array, grid: float) -> Array:
    return np.round(scores / grid) * grid if grid else scores


def _judged(scores: Array, expected: Array, luck: Array, design: Design) -> Iterator[tuple[int, ...]]:
    """For each simulation, the fields of a tally from `false_ew` to `marked`."""
    for one, truth, spread in zip(scores, expected, luck, strict=True):
        found = verdicts(one, EW, TUNED, design.level, spread)
        best = not_separable_from_best(one, design.level, spread)
        false_ew, false_tuned = _false(found, truth)
        others = [v for row, v in enumerate(found) if row not in (EW, TUNED, PLANTED)]
        planted = found[PLANTED].word if len(found) > PLANTED else ""
        yield (
            false_ew, false_tuned, false_ew or false_tuned,
            any(v.word == "better than tuned EW" for v in others), any(v.word == "worse" for v in others),
            planted in BETTER, planted == "better than tuned EW", not best[truth.argmax()], int(best.sum()),
        )  # fmt: skip


def _false(found: tuple[Verdict, ...], truth: Array) -> tuple[bool, bool]:
    """Whether any row is called better than EW, or than tuned EW, without being so."""
    false_ew = any(v.word == "better than EW" and truth[row] <= truth[EW] for row, v in enumerate(found))
    highest = max(truth[EW], truth[TUNED])
    return false_ew, any(v.word == "better than tuned EW" and truth[row] <= highest for row, v in enumerate(found))
