"""Every run and every score, as two CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from bench.records.record import Record
from bench.reporting.escaping import csv_row
from bench.reporting.labels import show_settings

# A line per run; and a line per run, task and metric, which has settings of 40 tasks not in each of 120 lines.
RUNS, SCORES = "runs.csv", "run-scores.csv"
RUN_COLUMNS = (
    "data", "variant", "method", "overrides", "seed", "status", "epoch", "epochs", "steps", "seconds", "step_seconds",
    "peak_memory_mib", "idle_memory_mib", "versions",
)  # fmt: skip
SPLITS = ("validation", "test", "last_test")
SCORE_COLUMNS = ("data", "variant", "method", "seed", "epoch", "task", "metric", "unit", "direction", *SPLITS)


def run_files(records: Sequence[Record]) -> dict[str, str]:
    """The content of both files, by name. Numbers are as recorded."""
    return {
        RUNS: _table(RUN_COLUMNS, map(_run, records)),
        SCORES: _table(SCORE_COLUMNS, (line for record in records for line in _scores(record))),
    }


def _table(columns: Sequence[str], lines: Iterator[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(csv_row, lines))
    return text.getvalue()


def _run(record: Record) -> dict[str, object]:
    return {
        **_identity(record),
        "overrides": show_settings(record.overrides),
        "status": record.status,
        "epochs": record.epochs,
        "steps": record.steps,
        "seconds": record.seconds,
        "step_seconds": record.step_seconds.median if record.step_seconds else None,
        "peak_memory_mib": record.peak_memory_mib,
        "idle_memory_mib": record.idle_memory_mib,
        "versions": show_settings(record.versions),
    }


def _identity(record: Record) -> dict[str, object]:
    return {
        "data": record.data,
        "variant": record.variant,
        "method": record.labels.method,
        "seed": record.seed,
        "epoch": record.selected.epoch if record.selected else None,
    }


def _scores(record: Record) -> Iterator[dict[str, object]]:
    """A line for each metric that has a score in some split. The epoch is that of the task, if it has its own."""
    of_task, identity = record.selected_by_task, _identity(record)
    for task in record.tasks:
        own = {"epoch": of_task[task.key].epoch} if task.key in of_task else {}
        for metric in task.metrics:
            scores = {split: getattr(record, split).get(task.key, {}).get(metric.key) for split in SPLITS}
            if any(score is not None for score in scores.values()):
                about = {"task": task.key, "metric": metric.key, "unit": metric.unit, "direction": metric.direction}
                yield {**identity, **own, **about, **scores}
