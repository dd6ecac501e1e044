"""The one number by which the rows of a table are compared."""

from __future__ import annotations

import math

from bench.records.record import Record, Scores, TaskRecord
from bench.reporting.statistics import mean, score_of

SMALLEST = 1e-4  # of a score before its logarithm; as in `bench.engine.evaluate.selection_score`


def test_score(record: Record) -> float:
    """The overall score of a run on test; higher is better, NaN if a score that it needs is missing or NaN.

    "accuracy": the mean over tasks of the first metric.
    "gain": the mean over tasks of the mean over metrics of the log gain over the dummy baseline. The difference of two
        runs with the same data is then a mean of log ratios: 0.01 is about 1 % better.

    It is the score that selects epochs on validation, computed on test.
    """
    if record.selection == "accuracy":
        return mean([score_of(record.test, task.key, task.metrics[0].key) for task in record.tasks])
    return mean([_log_gain(record.test, record.reference, task) for task in record.tasks])


def _log_gain(scores: Scores, dummy: Scores, task: TaskRecord) -> float:
    signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.metrics}
    gains = [
        sign * (_log(score_of(scores, task.key, key)) - _log(score_of(dummy, task.key, key)))
        for key, sign in signs.items()
    ]
    return mean(gains)


def _log(value: float) -> float:
    return math.log(max(value, SMALLEST))  # NaN stays NaN
