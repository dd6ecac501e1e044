"""The relative gain over equal weighting, by which dense problems are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.records.record import Direction, Scores, TaskRecord
from bench.reporting.estimates.summary import mean


def relative_gain(value: float, baseline: float, direction: Direction) -> float:
    """(-1)^s (value - baseline) / baseline, as a fraction; NaN where the baseline is 0 or either is not finite."""
    if baseline == 0 or not (math.isfinite(value) and math.isfinite(baseline)):
        return math.nan
    sign = -1.0 if direction == "lower" else 1.0
    return sign * (value - baseline) / baseline


def delta(scores: Scores, baseline: Scores, tasks: Sequence[TaskRecord]) -> float:
    """Δ_b as a fraction (0.0133 is printed as 1.33 %); positive is better than the baseline.

    Δ_b = (1/m) Σ_i (1/N_i) Σ_j (-1)^{s_ij} (M^b_ij - M^EW_ij) / M^EW_ij with s_ij = 1 where lower is better:
    a mean over the N_i metrics of a task first, then over the m tasks. NaN where any metric is missing or NaN.

    Source: Ye, Wang, Zhang, Tsang, "Multi-Task Learning via Time-Aware Neural ODE" (IJCAI 2023), Section 5,
    "Evaluation metric". https://www.ijcai.org/proceedings/2023/500
    """
    return mean(
        [
            mean(
                [
                    relative_gain(look_up(scores, task.key, m.key), look_up(baseline, task.key, m.key), m.direction)
                    for m in task.metrics
                ]
            )
            for task in tasks
        ]
    )


def look_up(scores: Scores, task: str, metric: str) -> float:
    """One score, NaN where it was not recorded."""
    return scores.get(task, {}).get(metric, math.nan)
