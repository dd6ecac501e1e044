"""Time to target of a validation curve, and the performance profile of rows over problems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.reporting.inference.describe import Array

ROUNDING = 1e-12  # of a score that was written to a table and read again
LARGEST_RATIO = 4.0


@dataclass(frozen=True)
class Reached:
    """When a curve first has the target; both infinite if it never has. seconds: wall-clock."""

    steps: float
    seconds: float


NEVER = Reached(np.inf, np.inf)


def time_to_target(steps: Array, seconds: Array, scores: Array, target: float) -> Reached:
    """The first point of a curve whose score is at least the target; higher is better, NaN never is.

    steps, seconds, scores: (points,) in order of time.
    """
    there = np.flatnonzero(scores >= target - ROUNDING * max(1.0, abs(target)))
    return Reached(float(steps[there[0]]), float(seconds[there[0]])) if len(there) else NEVER


def time_ratios(times: Array) -> Array:
    """times (problems, rows) over the least of each problem; infinite where a time is, or where all are.

    Raises:
        ValueError: a time is NaN, zero or negative; leave rows out that were not run on every problem.
    """
    if np.isnan(times).any() or (times <= 0).any():
        raise ValueError("times: expected positive numbers, infinite for never, found others; leave these rows out.")
    least = times.min(axis=1, keepdims=True)
    return np.where(np.isfinite(times), times / np.where(np.isfinite(least), least, 1.0), np.inf)


def performance_profile(times: Array, ratios: Array) -> Array:
    """Shares (rows, ratios) of problems on which a row takes at most this many times as long as the fastest one.

    times: (problems, rows), infinite if the target is never reached.

    Source: Dolan and Moré, "Benchmarking optimization software with performance profiles" (2002).
    https://arxiv.org/abs/cs/0102001
    """
    return np.asarray((time_ratios(times)[:, :, None] <= ratios).mean(axis=0))


def profile_score(times: Array, largest: float = LARGEST_RATIO) -> Array:
    """The mean height (rows,) of each profile between the ratios 1 and `largest`: 1 for a row that is always fastest.

    Source: Dahl et al., "Benchmarking neural network training algorithms" (2023), Section 4.4.
    https://arxiv.org/abs/2306.07179
    """
    return np.asarray(((largest - np.minimum(time_ratios(times), largest)) / (largest - 1)).mean(axis=0))
