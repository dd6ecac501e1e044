"""What ran, in plain text: the index of all reports, and one file with every number."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.render import index
from bench.reporting.speed.table import summary_table
from bench.reporting.speed.text import circumstances
from bench.reporting.study import Study, show_settings
from bench.reporting.tables.published import published
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

# Keys of `Record.environment` that a reader of the numbers wants to know, and what they are called here.
ENVIRONMENT = {
    "device": "Device",
    "cpu": "CPU",
    "threads": "Threads",
    "torch": "PyTorch",
    "python": "Python",
    "commit": "Commit",
}
# Folder of the reports of measurements of steps.
SPEED = "speed"
RUN_COLUMNS = (
    "data", "variant", "method", "overrides", "seed", "status", "epoch", "split", "task", "metric", "unit",
    "direction", "value",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One data set's part of the index: its tables, and the file names of its figures by title."""

    study: Study
    tables: tuple[Table, ...]
    figures: Mapping[str, str]

    @property
    def published(self) -> tuple[Table, ...]:
        return published(self.study.data, self.study.label, self.study.part)


@dataclass(frozen=True)
class SpeedSection:
    """One machine's part of the index; no summary where only the scaling was measured."""

    machine: str
    circumstances: str
    summary: Table | None

    @property
    def folder(self) -> str:
        return quote(f"{SPEED}/{self.machine}")


def readme(
    records: Sequence[Record], sections: Sequence[Section], spread: bool, speeds: Sequence[SpeedRecord] = ()
) -> str:
    """The index page. The same records give the same bytes."""
    chosen = [section.study for section in sections]
    return index(
        overview=_overview(chosen),
        unfinished=_unfinished(records),
        environments=_environments(records),
        sections=sections,
        spread=spread,
        speeds=[SpeedSection(speed.machine, circumstances(speed), summary_table(speed)) for speed in speeds],
    )


def _overview(studies: Sequence[Study]) -> Table:
    heads = ("Rows", "Methods", "Seeds", "Done", "Diverged", "Failed", "Not run")
    rows = []
    for study in studies:
        runs = [run for variant in study.variants for run in variant.runs.values()]
        states = Counter(run.status for run in runs)
        methods = ", ".join(dict.fromkeys(run.labels.method for run in runs))
        lacking = len(study.variants) * len(study.seeds) - len(runs)
        counts = (states["done"], states["diverged"], states["failed"], lacking)
        seeds = ", ".join(str(seed) for seed in study.seeds)
        texts = (str(len(study.variants)), methods, seeds, *(str(number) for number in counts))
        rows.append(Row(Head(study.label), tuple(Cell(text) for text in texts)))
    caption = "Runs by data set. A row is a method with its settings; each row has one run per seed."
    columns = tuple(Column(Head(head), "left" if head in ("Methods", "Seeds") else "right") for head in heads)
    return Table("overview", "", caption, "Data", (), columns, tuple(rows))


def _unfinished(records: Sequence[Record]) -> Table | None:
    rows = []
    for record in records:
        if record.status != "done":
            settings = show_settings(record.overrides)
            name = record.labels.method + (f" ({settings})" if settings else "")
            texts = (name, str(record.seed), record.status, record.reason or "no reason recorded")
            rows.append(Row(Head(record.labels.data), tuple(Cell(text) for text in texts)))
    columns = tuple(Column(Head(head), "left") for head in ("Method", "Seed", "Status", "Reason"))
    caption = "Runs that did not finish."
    return Table("unfinished", "", caption, "Data", (), columns, tuple(rows)) if rows else None


def _environments(records: Sequence[Record]) -> Table | None:
    """Every distinct environment, with the number of runs that it saw."""
    seen = Counter(tuple(str(record.environment.get(key, "--")) for key in ENVIRONMENT) for record in records)
    known = [place for place in range(len(ENVIRONMENT)) if any(values[place] != "--" for values in seen)]
    if not known:
        return None
    names = list(ENVIRONMENT.values())
    columns = tuple(Column(Head(names[place]), "left") for place in known)
    rows = tuple(
        Row(Head(str(number)), tuple(Cell(values[place]) for place in known))
        for values, number in sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    )
    return Table("environments", "", "Where runs were trained.", "Runs", (), columns, rows)


def runs_csv(records: Sequence[Record]) -> str:
    """Every score of every run, one a line, as recorded; a run without scores has one line that says its status."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RUN_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        run = {
            "data": record.data,
            "variant": record.variant,
            "method": record.labels.method,
            "overrides": show_settings(record.overrides),
            "seed": record.seed,
            "status": record.status,
            "epoch": record.selected.epoch if record.selected else "",
        }
        scores = _scores(record)
        writer.writerows([{**run, **score} for score in scores] or [run])
    return text.getvalue()


def _scores(record: Record) -> list[dict[str, object]]:
    splits = {"validation": record.validation, "test": record.test, "last_test": record.last_test}
    return [
        {
            "split": split,
            "task": task.key,
            "metric": metric.key,
            "unit": metric.unit,
            "direction": metric.direction,
            "value": repr(scores[task.key][metric.key]),
        }
        for split, scores in splits.items()
        for task in record.tasks
        for metric in task.metrics
        if metric.key in scores.get(task.key, {})
    ]
