"""Tests of paired differences: sign flips, and Holm's adjustment for several rows."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.stats import t

from bench.reporting.inference.describe import Array

MOST_EXACT = 16  # seeds, up to which all signs are tried
DRAWS = 2 ** (MOST_EXACT - 1)  # of signs, above
MOST_SUMS = 2**21  # in memory at a time: 16 MiB
ROUNDING = 1e-9  # of means that differ only by the order of their sums, relative to the mean size of differences


def sign_flip_p(differences: Array, *, one_sided: bool = False, seed: int = 0) -> Array:
    """p (...,) of a zero mean of paired differences (..., n), two-sided or against a mean above zero.

    Without an effect, a difference and its negative are equally likely, so the mean is compared with the means of the
    same differences under all 2^n signs. Means that are equal count. For more than 16 differences, signs are drawn.
    The least two-sided p is 2^(1 - n), the least one-sided 2^-n.

    Raises:
        ValueError: no differences, or not all finite.
    Source: Fisher, "The design of experiments" (1935), Section 21; draws as in Phipson and Smyth, "Permutation p-values
    should never be zero" (2010). https://arxiv.org/abs/1603.05766
    """
    if not differences.shape[-1] or not np.isfinite(differences).all():
        raise ValueError("differences: expected finite numbers, one for each seed, found others; leave these out.")
    n = differences.shape[-1]
    signs = _all_signs(n) if n <= MOST_EXACT else _drawn_signs(n, seed)
    tests = differences.reshape(-1, n)
    size = max(1, MOST_SUMS // len(signs))
    parts = [_flipped(tests[start : start + size], signs, one_sided) for start in range(0, len(tests), size)]
    return np.concatenate([*parts, np.empty(0)]).reshape(differences.shape[:-1])


def _flipped(differences: Array, signs: Array, one_sided: bool) -> Array:
    """p (tests,) of differences (tests, n) under these signs."""
    n = differences.shape[-1]
    sums = differences @ signs.T  # (tests, flips); the first is the observed one
    slack = ROUNDING * np.abs(differences).sum(axis=-1, keepdims=True)
    if not one_sided:
        return np.asarray((np.abs(sums) >= np.abs(sums[:, :1]) - slack).mean(axis=-1))
    at_least = (sums >= sums[:, :1] - slack).sum(axis=-1)
    if n <= MOST_EXACT:  # the other half of the signs
        at_least = at_least + (-sums >= sums[:, :1] - slack).sum(axis=-1)
    return np.asarray(at_least / (len(signs) * (2 if n <= MOST_EXACT else 1)))


def luck_p(differences: Array, luck: Array, *, one_sided: bool = False) -> Array:
    """p (...,) of differences (..., n) of two rows whose settings were found by tuning, as a sample of such settings.

    Student's test with the variance of the mean over seeds plus luck² (...,): that of both rows' expected scores over
    repeats of their tuning. Zero where luck is 0, since the sign-flip test is enough there.
    """
    n = differences.shape[-1]
    centre = differences.mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = centre / np.sqrt(differences.var(axis=-1, ddof=1) / n + luck**2)
    p = t.sf(ratio, n - 1) if one_sided else 2 * t.sf(np.abs(ratio), n - 1)
    return np.asarray(np.where(luck > 0, p, 0.0))


@cache
def _all_signs(n: int) -> Array:
    """Half of all signs (2^(n-1), n), those with a positive first; the others are their negatives."""
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)[None, :] & 1
    return np.asarray(1.0 - 2.0 * np.roll(bits, 1, axis=1))


@cache
def _drawn_signs(n: int, seed: int) -> Array:
    """Drawn signs (DRAWS, n), after the observed ones."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (DRAWS, n))
    signs[0] = 1.0
    return signs


def holm(p: Array) -> Array:
    """p (..., K) adjusted for the K tests of each family, so that P(any false rejection) is at most the level.

    NaN, for a test that was not made, stays NaN and is not counted.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979). https://www.jstor.org/stable/4615733
    """
    order = np.argsort(p, axis=-1)  # NaN last
    tests = np.isfinite(p).sum(axis=-1, keepdims=True)
    factors = np.maximum(tests - np.arange(p.shape[-1]), 1)
    stepped = np.take_along_axis(p, order, axis=-1) * factors
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    back = np.empty_like(adjusted)
    np.put_along_axis(back, order, adjusted, axis=-1)
    return back


def fewest_seeds(tests: int, level: float) -> int:
    """The fewest seeds with which the two-sided sign-flip test can reject the first of several tests, with Holm."""
    n = 1
    while 2.0 ** (1 - n) * tests > level:
        n += 1
    return n
