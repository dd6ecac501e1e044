"""What the runs of the control say: accuracies with intervals, and how learned positions agree with the true times."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.records.record import Record

LAST_SHARE = 0.2  # of the steps, over which late movement is measured
CONFIDENCE = 0.95

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval. n: the number of seeds. Without ends for a single seed."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: Sequence[float]) -> Interval:
    """The mean and its two-sided 95 % interval by Student's t, for values (n,) of independent seeds."""
    n, centre = len(values), float(np.mean(values))
    if n < 2:
        return Interval(centre, float("nan"), float("nan"), n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5)
    return Interval(centre, centre - half, centre + half, n)


def accuracy_of(record: Record) -> float:
    """The mean test accuracy over tasks, in %."""
    return 100 * float(np.mean([record.test[task.key]["accuracy"] for task in record.tasks]))


def order_agreement(positions: Sequence[float], times: Sequence[float]) -> float:
    """Spearman's correlation of positions (m,) with the true times; −1 is the true order run backwards.

    A flow can be read backwards: the encoder may learn the features at the last time. So the sign says nothing.
    """
    return float(stats.spearmanr(positions, times).statistic)


def late_movement(path: Numbers) -> float:
    """How far positions (steps, m) move over the last fifth of the steps: the mean of |p(end) − p(then)| over tasks."""
    then = min(int((1 - LAST_SHARE) * len(path)), len(path) - 1)
    return float(np.abs(path[-1] - path[then]).mean())


def read_positions(path: Path) -> Numbers:
    """The positions (steps, m) of a run's positions.csv, whose first column is the step."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    return np.array([[float(cell) for cell in row[1:]] for row in rows])


def paired(runs: Mapping[int, float], others: Mapping[int, float]) -> Interval | None:
    """The mean difference over the seeds that both have; None without a common seed."""
    seeds = sorted(runs.keys() & others.keys())
    return t_interval([runs[seed] - others[seed] for seed in seeds]) if seeds else None
