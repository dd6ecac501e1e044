"""The scores that a record and the learning curve of its run share: those of the selected epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bench.records.record import Record
from bench.records.tables import NumberTable


def selected_scores(record: Record) -> Mapping[str, tuple[int, float]]:
    """The epoch and the score of each column of the curve that the record repeats; NaN where it has no score."""
    if record.selected is None:
        return {}
    expected = {
        f"validation/{task.key}/{metric.key}": (
            record.selected_by_task.get(task.key, record.selected).epoch,
            record.validation.get(task.key, {}).get(metric.key, math.nan),
        )
        for task in record.tasks
        for metric in task.metrics
    }
    if record.validation and not record.selected_by_task:
        expected["score"] = record.selected.epoch, record.selected.score
    return expected


def wrong_scores(curve: NumberTable, record: Record) -> str:
    """How a curve contradicts its record, in words; "" if it doesn't. Columns and epochs that it lacks don't."""
    for column, (epoch, score) in selected_scores(record).items():
        found = curve[column][curve["epoch"] == epoch] if column in curve else np.empty(0)
        if len(found) and not np.array_equal(found, np.full(len(found), score), equal_nan=True):
            at = f"at the selected epoch {epoch}, as the record says"
            return f"{column}: expected {score} {at}, found {found[0]}"
    return ""
