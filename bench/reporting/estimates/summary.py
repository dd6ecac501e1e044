"""What is said about the values of several seeds."""

from __future__ import annotations

import math
from collections.abc import Collection


def mean(values: Collection[float]) -> float:
    """Arithmetic mean of one value per seed.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("expected at least one value to average, found none")
    return math.fsum(values) / len(values)


def deviation(values: Collection[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than two values, where it doesn't exist."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
