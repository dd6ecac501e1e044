"""Mean, standard deviation and interquartile mean of one number per seed, and what an estimate is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.05  # of tests; intervals cover with probability 1 - LEVEL


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN where there are too few seeds for one."""

    value: float
    low: float
    high: float


def require_finite(values: Array, least: int, what: str) -> None:
    """Checks values (n,).

    Raises:
        ValueError: fewer than `least`, or not all finite.
    """
    if values.ndim != 1 or len(values) < least:
        raise ValueError(f"{what}: expected at least {least} in one row, found shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: expected finite numbers, found {values[~np.isfinite(values)][0]}; leave these out.")


def mean(values: Array) -> float:
    """Arithmetic mean of values (n,).

    Raises:
        ValueError: no values, or not all finite.
    """
    require_finite(values, 1, "values")
    return float(values.mean())


def sd(values: Array) -> float:
    """Standard deviation of values (n,), with n - 1; NaN for one value, infinite beyond the largest number.

    Raises:
        ValueError: as of `mean`.
    """
    require_finite(values, 1, "values")
    if len(values) < 2:
        return float("nan")
    _, power = np.frexp(np.abs(values).max())  # a power of two changes no digit, and squares of shares don't overflow
    with np.errstate(over="ignore"):
        return float(np.ldexp(np.ldexp(values, -power).std(ddof=1), power))


def interquartile_mean(values: Array) -> float:
    """Mean of values (n,) without the lowest and the highest quarter, each rounded down to whole values.

    Raises:
        ValueError: as of `mean`.
    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (NeurIPS 2021),
    Section 4.3. https://arxiv.org/abs/2108.13264
    """
    require_finite(values, 1, "values")
    from scipy.stats import trim_mean  # takes a while to import

    return float(trim_mean(values, 0.25))
