"""How large a difference some seeds can detect, and how many seeds a difference needs."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, t

from bench.reporting.inference.describe import LEVEL

POWER = 0.8
MOST_SEEDS = 10**6


def power_of(difference: float, sd: float, n: int, level: float = LEVEL) -> float:
    """P(a two-sided paired t test of n seeds rejects) if paired differences are normal with this mean and sd.

    The sign-flip test has about this power where n permits it to reject at all.

    Source: Cohen, "Statistical power analysis for the behavioral sciences" (1988), Chapter 2.
    """
    if n < 2:
        return 0.0
    edge, shift = t.ppf(1 - level / 2, n - 1), math.sqrt(n) * abs(difference) / sd
    wrong_side = nct.cdf(-edge, n - 1, shift)
    # scipy gives NaN for probabilities of about 1e-15 and less.
    return float(nct.sf(edge, n - 1, shift) + np.nan_to_num(wrong_side))


def detectable_difference(sd: float, n: int, power: float = POWER, level: float = LEVEL) -> float:
    """The least difference that n seeds detect with this power, in the unit of sd; infinite for fewer than two seeds.

    sd: of the paired differences, with n - 1. level: divide it by the number of rows for Holm's first step.
    """
    if n < 2:
        return math.inf
    if sd == 0:
        return 0.0

    def lacking(errors: float) -> float:
        return power_of(errors * sd / math.sqrt(n), sd, n, level) - power

    most = 2.0
    while lacking(most) < 0:
        most *= 2
    return float(brentq(lacking, 0.0, most)) * sd / math.sqrt(n)


def seeds_needed(difference: float, sd: float, power: float = POWER, level: float = LEVEL) -> int:
    """The fewest seeds, at least two, that detect a difference with this power; arguments as above.

    Raises:
        ValueError: no number of seeds up to a million does.
    """
    if detectable_difference(sd, MOST_SEEDS, power, level) > abs(difference):
        raise ValueError(f"difference: expected one that {MOST_SEEDS:,} seeds detect, found {difference:g}")
    low, high = 1, 2
    while detectable_difference(sd, high, power, level) > abs(difference):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = detectable_difference(sd, middle, power, level) <= abs(difference)
        low, high = (low, middle) if enough else (middle, high)
    return high
