"""Statistics over seeds, and the relative gain Δ_b over equal weighting."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from bench.records.record import Direction, Scores, TaskRecord


def mean(values: Collection[float]) -> float:
    """Arithmetic mean of one value per seed.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("expected at least one value to average, found none")
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # a sum beyond the largest number, or infinities of both signs
        return sum(value / len(values) for value in values)


def deviation(values: Collection[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than two values, where it is undefined."""
    if len(values) < 2:
        return None
    centre = mean(values)
    try:
        return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
    except OverflowError:  # squares beyond the largest number
        return math.hypot(*(value - centre for value in values)) / math.sqrt(len(values) - 1)


def relative_gain(value: float, baseline: float, direction: Direction) -> float:
    """(-1)^s (value - baseline) / baseline, as a fraction; NaN if the baseline is 0 or either is not finite."""
    if baseline == 0 or not (math.isfinite(value) and math.isfinite(baseline)):
        return math.nan
    sign = -1.0 if direction == "lower" else 1.0
    return sign * (value - baseline) / baseline


def delta(scores: Scores, baseline: Scores, tasks: Sequence[TaskRecord]) -> float:
    """Δ_b as a fraction (0.0133 is printed as 1.33 %); positive is better than the baseline.

    Δ_b = (1/m) Σ_i (1/N_i) Σ_j (-1)^{s_ij} (M^b_ij - M^EW_ij) / M^EW_ij with s_ij = 1 where lower is better:
    a mean over the N_i metrics of a task first, then over the m tasks. NaN if any metric is missing or NaN.

    Source: Ye, Wang, Zhang, Tsang, "Multi-Task Learning via Time-Aware Neural ODE" (IJCAI 2023), Section 5,
    "Evaluation metric". https://www.ijcai.org/proceedings/2023/500
    """
    return mean([task_gain(scores, baseline, task) for task in tasks])


def task_gain(scores: Scores, baseline: Scores, task: TaskRecord) -> float:
    """The part that a task has in `delta`: the mean of the relative gains of its metrics."""
    gains = [
        relative_gain(score_of(scores, task.key, m.key), score_of(baseline, task.key, m.key), m.direction)
        for m in task.metrics
    ]
    return mean(gains)


def score_of(scores: Scores, task: str, metric: str) -> float:
    """One score, NaN if it was not recorded."""
    return scores.get(task, {}).get(metric, math.nan)
