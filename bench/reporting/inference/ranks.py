"""Mean ranks over problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from bench.reporting.inference.describe import LEVEL, Array, Estimate

RESAMPLES = 4_000
# Means of scores that are equal but for rounding are equal: thousands of items make no difference smaller than this.
DECIMALS = 10


@dataclass(frozen=True)
class MeanRank:
    """A row's mean rank over problems, 1 is best; None for a row that lacks runs, and the problems where it does."""

    rank: Estimate | None
    lacking: tuple[int, ...]


def mean_ranks(problems: Sequence[Array], level: float = LEVEL, seed: int = 0) -> tuple[MeanRank, ...]:
    """The mean rank of each row over problems, by its mean score; equal scores share the mean of their ranks.

    Only rows with every seed of every problem are ranked, among each other. Intervals are percentiles over resampled
    seeds, the same for all rows of a problem, with deviations times sqrt(n / (n - 1)), as resampling makes them too
    small by this factor. They are about these problems, not about others.

    problems: scores (rows, seeds) of each, higher is better; NaN for a run that was not made, -inf for one that
        diverged: the row is the last one there.
    """
    lacking = [tuple(p for p, s in enumerate(problems) if np.isnan(s[row]).any()) for row in range(len(problems[0]))]
    whole = [row for row, places in enumerate(lacking) if not places]
    if not whole:
        return tuple(MeanRank(None, places) for places in lacking)
    generator = np.random.default_rng(seed)
    observed = np.mean([_ranks(scores[whole].mean(axis=1)) for scores in problems], axis=0)
    drawn = np.mean([_drawn_ranks(scores[whole], generator) for scores in problems], axis=0)  # (RESAMPLES, rows)
    low, high = np.quantile(drawn, [level / 2, 1 - level / 2], axis=0)
    found = {row: Estimate(float(observed[i]), float(low[i]), float(high[i])) for i, row in enumerate(whole)}
    return tuple(MeanRank(found.get(row), places) for row, places in enumerate(lacking))


def _ranks(scores: Array) -> Array:
    return np.asarray(rankdata(-np.round(scores, DECIMALS), axis=-1))


def _drawn_ranks(scores: Array, generator: np.random.Generator) -> Array:
    """Ranks (RESAMPLES, rows) with seeds resampled; rows that diverged stay last."""
    n = scores.shape[1]
    means = scores.mean(axis=1)
    last = ~np.isfinite(means)
    kept = np.where(last[:, None], 0.0, scores)
    draws = generator.integers(0, n, (RESAMPLES, n))
    centre = kept.mean(axis=1)
    drawn = kept[:, draws].mean(axis=2).T  # (RESAMPLES, rows)
    wider = centre + (drawn - centre) * np.sqrt(n / (n - 1)) if n > 1 else drawn
    return _ranks(np.where(last, -np.inf, wider))
