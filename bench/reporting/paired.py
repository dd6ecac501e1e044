"""Statistics of paired numbers, one per seed: intervals, sign-flip test, Holm, detectable differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.stats import nct, t

Numbers = npt.NDArray[np.float64]

LEVEL = 0.05
RESAMPLES = 4_000
MOST_EXACT = 16  # seeds, up to which all signs are tried
ROUNDING = 1e-12


def bootstrap_interval(values: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of the mean of values (n,), by resampling; the same for the same n and values."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [level / 2, 1 - level / 2])
    return float(low), float(high)


def sign_flip_p(differences: Numbers) -> float:
    """The two-sided p of a mean of 0, from the means of the differences (n,) with all, or 65,536 drawn, signs."""
    n = len(differences)
    if n <= MOST_EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))  # (2^n, n)
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), (2**MOST_EXACT, n))
        signs[0] = 1.0
    means = np.abs(signs @ differences) / n
    return float(np.mean(means >= means[0] - ROUNDING * max(1.0, means[0])))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values adjusted for their number. Source: Holm, "A simple sequentially rejective test procedure" (1979)."""
    adjusted, largest = {}, 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}


def detectable(deviation: float, n: int, power: float = 0.8, level: float = LEVEL) -> float:
    """The difference that a paired t test of n seeds finds with this power. deviation: of the paired differences."""
    edge = t.ppf(1 - level / 2, n - 1)
    low, high = 0.0, 100.0  # standard errors
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if nct.sf(edge, n - 1, middle) < power else (low, middle)
    return high * deviation / math.sqrt(n)
