"""Whether a budget was enough: how much the best validation score so far still rose in the last third of the epochs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.reporting.inference.describe import Array

SHARE = 3  # the last of so many parts of the epochs
# The mean gain over seeds from which a curve counts as rising, by what selects epochs: half a point of accuracy; a mean
# log gain of 1.5 %.
FLAT: Mapping[str, float] = {"accuracy": 0.005, "gain": 0.015}


def late_gains(scores: Array) -> Array:
    """(n,) what the best validation score so far gained in the last third of the epochs, rounded down to whole ones.

    scores: (n, epochs) of n seeds. NaN never is the best score. A seed without a finite score before that gives NaN.

    Raises:
        ValueError: fewer epochs than thirds.
    """
    if scores.ndim != 2 or scores.shape[1] < SHARE:
        raise ValueError(f"scores: expected (seeds, epochs) with at least {SHARE} epochs, found shape {scores.shape}")
    best = np.fmax.accumulate(scores, axis=1)
    late = scores.shape[1] // SHARE
    before = best[:, -1 - late]
    return np.subtract(best[:, -1], before, out=np.full(len(best), np.nan), where=np.isfinite(before))


def is_flat(gains: Array, selection: str) -> bool:
    """Whether the mean late gain (n,) over seeds is less than FLAT."""
    return bool(gains.mean() < FLAT[selection])
