"""Intervals of a mean paired difference: over seeds, and over seeds and test items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from bench.reporting.inference.describe import LEVEL, Array, Estimate, require_finite, sd

RESAMPLES = 4_000
ITEM_RESAMPLES = 500  # of each seed, from which the resamples draw
FEW_VALUES = 0.05  # as a share of the items: drawing how often each comes is then faster than drawing items
# Of one run: item scores (items, tasks), truth values or numbers. Items of a block are drawn together.
Blocks = Sequence[npt.NDArray[np.generic]]
Method = Literal["studentised", "bca", "percentile"]


def seed_interval(differences: Array, level: float = LEVEL) -> Estimate:
    """The mean of paired differences (n,), one for each seed, with Student's interval; NaN bounds for one seed.

    Raises:
        ValueError: no differences, or not all finite.
    Source: Student, "The probable error of a mean" (1908). https://doi.org/10.1093/biomet/6.1.1
    """
    require_finite(differences, 1, "differences")
    n, value = len(differences), float(differences.mean())
    if n < 2:
        return Estimate(value, np.nan, np.nan)
    half = float(t.ppf(1 - level / 2, n - 1)) * sd(differences) / math.sqrt(n)
    return Estimate(value, value - half, value + half)


def paired_bootstrap(
    a: Sequence[Blocks],
    b: Sequence[Blocks],
    method: Method = "studentised",
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """The mean difference of A and B over seeds, with an interval from resampled seeds and, within them, test items.

    The score of a run is the mean over all columns of their means over items.

    Pairs are kept: both runs of a seed are drawn together, and both lose or keep the same items.

    a, b: one run for each seed, with the same items in the same order. A run has blocks (items, columns): one for each
        task if every task has images of its own, else a single one.

    Raises:
        ValueError: fewer than two seeds, or other seeds, blocks or items in a than in b.
    Source: studentised and BCa intervals: Efron and Tibshirani, "An introduction to the bootstrap" (1993), Chapters 12
    and 14; strata: Agarwal et al. (2021), Section 4.1. https://arxiv.org/abs/2108.13264
    """
    _check(a, b)
    generator = np.random.default_rng(seed)
    pairs = [_differences(x, y) for x, y in zip(a, b, strict=True)]
    observed = np.array([sum(float(items.mean()) for items in pair) for pair in pairs])  # (n,)
    items = np.stack([np.sum([_drawn_means(of, generator) for of in pair], axis=0) for pair in pairs])  # (n, draws)
    n = len(observed)
    seeds = generator.integers(0, n, (RESAMPLES, n))
    drawn = items[seeds, generator.integers(0, ITEM_RESAMPLES, (RESAMPLES, n))]  # (RESAMPLES, n)
    low, high = _BOUNDS[method](observed, drawn, level)
    return Estimate(float(observed.mean()), low, high)


def _check(a: Sequence[Blocks], b: Sequence[Blocks]) -> None:
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"seeds: expected the same, at least two, of both rows, found {len(a)} and {len(b)}")
    shapes = [([x.shape for x in one], [y.shape for y in other]) for one, other in zip(a, b, strict=True)]
    for place, (one, other) in enumerate(shapes):
        if one != other:
            raise ValueError(f"items of pair {place}: expected the same in both rows, found {one} and {other}")


def _differences(a: Blocks, b: Blocks) -> list[Array]:
    """What each item of a block (items,) adds to the difference of two runs, which is the sum of the blocks' means."""
    columns = sum(block.shape[1] for block in a)
    sums = ([block.sum(axis=1, dtype=np.float64) for block in run] for run in (a, b))
    return [(x - y) / columns for x, y in zip(*sums, strict=True)]


def _drawn_means(values: Array, generator: np.random.Generator) -> Array:
    """Means (ITEM_RESAMPLES,) of values (items,) resampled.

    Right and wrong answers have few different sums, so that it is enough to draw how often each of them comes.
    """
    n = len(values)
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= n * FEW_VALUES:
        return np.asarray(generator.multinomial(n, counts / n, ITEM_RESAMPLES) @ different / n)
    return np.asarray(values[generator.integers(0, n, (ITEM_RESAMPLES, n), dtype=np.int32)].mean(axis=1))


def _percentile(observed: Array, drawn: Array, level: float) -> tuple[float, float]:
    del observed
    low, high = np.quantile(drawn.mean(axis=1), [level / 2, 1 - level / 2])
    return float(low), float(high)


def _studentised(observed: Array, drawn: Array, level: float) -> tuple[float, float]:
    """From the distribution of (mean* - mean) / error*; the error is that over seeds, which contains that of items.

    Student's interval where too many resamples have no error, so an infinite ratio, as if all seeds but one are alike.
    """
    n, centre = len(observed), observed.mean()
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn.mean(axis=1) - centre) / errors
    if np.isinf(ratios).mean() >= level / 2:
        found = seed_interval(observed, level)
        return found.low, found.high
    low, high = np.quantile(np.nan_to_num(ratios, nan=0.0, posinf=1e9, neginf=-1e9), [level / 2, 1 - level / 2])
    error = observed.std(ddof=1) / np.sqrt(n)
    return float(centre - high * error), float(centre - low * error)


def _bca(observed: Array, drawn: Array, level: float) -> tuple[float, float]:
    """Percentiles corrected for bias and for skewness, the latter by leaving out one seed at a time."""
    means, n = drawn.mean(axis=1), len(observed)
    bias = norm.ppf(np.clip(np.mean(means < observed.mean()), 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    without = (observed.sum() - observed) / (n - 1)
    centred = without.mean() - without
    scale = float((centred**2).sum()) ** 1.5
    skew = float((centred**3).sum()) / (6 * scale) if scale else 0.0
    z = bias + norm.ppf([level / 2, 1 - level / 2])
    low, high = np.quantile(means, norm.cdf(bias + z / (1 - skew * z)))
    return float(low), float(high)


_BOUNDS: dict[Method, Callable[[Array, Array, float], tuple[float, float]]] = {
    "studentised": _studentised,
    "bca": _bca,
    "percentile": _percentile,
}
