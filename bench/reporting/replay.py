"""Tuning, replayed from its table of trials: what the best of k trials would have scored, without training again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

INTERVAL = 0.95  # the share of repeats between low and high


@dataclass(frozen=True)
class BestOf:
    """The score of the best of k trials over repeats of the tuning: its median, and what INTERVAL of them lie between.

    -inf stands for a tuning in which no trial finished.
    """

    k: int
    median: float
    low: float
    high: float


def best_of(scores: Sequence[float], k: int) -> BestOf:
    """Replays tunings of k trials, each drawn from these with replacement, and takes the best of each on validation.

    This is the limit of infinitely many resampled repeats, from P(best ≤ j-th lowest of N scores) = (j/N)^k, so that
    nothing is drawn.

    scores: (N,) of all trials; -inf for one that counts as the worst.

    Raises:
        ValueError: there are no scores, or k < 1.
    Source: Dodge et al.: Show your work (EMNLP 2019), Eq. (7); the median over repeats as in Dahl et al.: Benchmarking
        neural network training algorithms (2023).
    """
    if not scores or k < 1:
        raise ValueError(f"expected scores and k ≥ 1, found {len(scores)} scores and k = {k}")
    ordered = sorted(scores)
    tail = (1 - INTERVAL) / 2
    median, low, high = (_quantile(ordered, k, share) for share in (0.5, tail, 1 - tail))
    return BestOf(k, median, low, high)


def _quantile(ordered: Sequence[float], k: int, share: float) -> float:
    """The lowest score that the best of k reaches or stays below with at least this probability."""
    count = len(ordered)
    place = math.ceil(count * share ** (1 / k) - 1e-9)  # an exact power must not be rounded up
    return ordered[min(max(place, 1), count) - 1]
