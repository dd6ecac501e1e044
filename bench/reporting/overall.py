"""The one number by which the rows of a table are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.records.record import Record, Scores, TaskRecord
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.describe import Array
from bench.reporting.statistics import mean, score_of

SMALLEST = 1e-4  # of a score before its logarithm; as in `bench.engine.selection.selection_score`


def test_score(record: Record) -> float:
    """The overall score of a run on test; higher is better, NaN if a score that it needs is missing or NaN.

    "accuracy": the mean over tasks of the first metric.
    "gain": the mean over tasks of the mean over metrics of the log gain over the dummy baseline. The difference of two
        runs with the same data is then a mean of log ratios: 0.01 is about 1 % better.

    It is the score that selects epochs on validation, computed on test.
    """
    return mean([task_score(record, task) for task in record.tasks])


def task_score(record: Record, task: TaskRecord) -> float:
    """The part that a task has in `test_score`; NaN if a score that it needs is missing or NaN."""
    if record.selection == "accuracy":
        return score_of(record.test, task.key, task.metrics[0].key)
    return _log_gain(record.test, record.reference, task)


def _log_gain(scores: Scores, dummy: Scores, task: TaskRecord) -> float:
    signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.metrics}
    gains = [
        sign * (_log(score_of(scores, task.key, key)) - _log(score_of(dummy, task.key, key)))
        for key, sign in signs.items()
    ]
    return mean(gains)


def _log(value: float) -> float:
    return math.log(max(value, SMALLEST))  # NaN stays NaN


def score_matrix(variants: Sequence[Variant], seeds: Sequence[int]) -> Array:
    """The overall test scores (rows, seeds) of the finished runs; NaN where there is none or it is not finite."""
    rows = [[test_score(v.scored[seed]) if seed in v.scored else math.nan for seed in seeds] for v in variants]
    found = np.array(rows).reshape(len(rows), len(seeds))
    return np.where(np.isfinite(found), found, np.nan)


def by_score(comparison: Comparison, variants: Sequence[Variant]) -> list[Variant]:
    """The rows in the order of their mean overall test score, the best first, those without any last."""
    scores = score_matrix(variants, comparison.seeds)
    means = [mean(found.tolist()) if len(found := row[np.isfinite(row)]) else -math.inf for row in scores]
    return [variants[place] for place in sorted(range(len(variants)), key=lambda place: -means[place])]


def overall_unit(comparison: Comparison) -> str:
    """That of the overall test score: a share, or none for a log gain."""
    return comparison.tasks[0].metrics[0].unit if comparison.selection == "accuracy" else ""


def overall_name(comparison: Comparison) -> str:
    """What the overall test score is, for captions."""
    if comparison.selection == "accuracy":
        metric = comparison.tasks[0].metrics[0]
        unit = f" ({metric.unit})" if metric.unit else ""
        return f"mean over tasks of the test {metric.label.lower()}{unit}"
    return (
        "mean over tasks of the mean over metrics of the log gain over the dummy baseline on test; a difference of "
        "0.01 is about 1 %"
    )
