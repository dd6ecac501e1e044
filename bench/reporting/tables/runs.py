"""Every score of every run, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from bench.records.record import Record
from bench.reporting.escaping import csv_row
from bench.reporting.labels import show_settings

RUN_COLUMNS = (
    "data", "variant", "method", "overrides", "seed", "status", "epoch", "split", "task", "metric", "unit",
    "direction", "value", "versions",
)  # fmt: skip


def runs_csv(records: Sequence[Record]) -> str:
    """One line per score, as recorded; a run without scores has one line that gives its status."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RUN_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        run: dict[str, object] = {
            "data": record.data,
            "variant": record.variant,
            "method": record.labels.method,
            "overrides": show_settings(record.overrides),
            "seed": record.seed,
            "status": record.status,
            "epoch": record.selected.epoch if record.selected else None,
            "versions": show_settings(record.versions),
        }
        scores = _scores(record)
        writer.writerows([csv_row({**run, **score}) for score in scores] or [csv_row(run)])
    return text.getvalue()


def _scores(record: Record) -> list[dict[str, object]]:
    of_task = record.selected_by_task
    splits = {"validation": record.validation, "test": record.test, "last_test": record.last_test}
    return [
        {
            **({"epoch": of_task[task.key].epoch} if task.key in of_task else {}),
            "split": split,
            "task": task.key,
            "metric": metric.key,
            "unit": metric.unit,
            "direction": metric.direction,
            "value": scores[task.key][metric.key],
        }
        for split, scores in splits.items()
        for task in record.tasks
        for metric in task.metrics
        if metric.key in scores.get(task.key, {})
    ]
