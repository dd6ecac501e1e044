"""Records whose means over three seeds are the cells that the paper printed, and reports on them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record_factory import make_record

from bench.records.record import Labels, MetricRecord, Order, Record, Scores, TaskRecord
from bench.report import main
from bench.reporting.paper.layout import ABLATIONS, AVERAGE, GAIN, TABLE4, PaperColumn, PaperTable
from bench.reporting.paper.printed import printed_rows
from bench.spec.run_specs import specs_of
from bench.spec.study import load_study
from datasets import DATASETS
from methods import METHODS

SEEDS = (0, 1, 2)
# Relative deviations of the seeds from the mean, in some order; they cancel.
DEVIATIONS = (-0.0008, 0.0003, 0.0005)


def report_on(results: Path, out: Path, *options: str) -> int:
    return main(["--paper", "--results", str(results), "--out", str(out), *options])


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a table in Markdown, without marks of notes; bold stays."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    bare = [re.sub(r"<sup>.*?</sup>", "", line).strip("|") for line in lines]
    return [[cell.strip() for cell in line.split(" | ")] for line in (bare[0], *bare[2:])]


def paper_records(layout: PaperTable, data: Sequence[str] = ()) -> list[Record]:
    """Runs of all methods of a table on its data sets, or on some."""
    return [
        run
        for name, cells in printed_rows(layout).items()
        for key in (data or layout.data)
        for run in _runs(layout, key, name, cells, method=name.lower().replace("-", "_"), label=name)
    ]


def ablation_records(data: Sequence[str] = ()) -> list[Record]:
    """Runs of all rows of Table 4, with the settings of the study `ablation`."""
    rows = {row.label: row for table in load_study("ablation").tables for row in table.rows if table.name == "table4"}
    found = []
    for name, cells in printed_rows(TABLE4).items():
        for key in data or TABLE4.data:
            spec = specs_of(rows[ABLATIONS[name]], key, 0)[0]
            fields = {
                "method": spec.method,
                "variant": spec.variant,
                "overrides": dict(spec.overrides),
                "architecture": spec.architecture,
                "weighting": spec.weighting,
            }
            label = "NORMAL" if spec.architecture == "normal" else "HPS"
            found += _runs(TABLE4, key, name, cells, label=label, **fields)
    return found


def real_tasks(data: str) -> list[TaskRecord]:
    """The tasks of a data set as runs record them."""
    return [
        TaskRecord(
            key=task.key,
            label=task.label,
            metrics=[
                MetricRecord(key=m.key, label=m.label, direction=m.direction, unit=m.unit) for m in task.measure.metrics
            ],
        )
        for task in DATASETS[data].tasks
    ]


def _runs(
    layout: PaperTable, data: str, name: str, cells: Mapping[str, str], *, method: str, label: str, **fields: Any
) -> list[Record]:
    tasks, info, order = real_tasks(data), DATASETS[data], list(METHODS)
    columns = [column for column in layout.columns if column.data == data and column.task != GAIN]
    runs = []
    for place, seed in enumerate(SEEDS):
        scores = _scores(tasks, columns, name, cells, place)
        blank = {"tasks": tasks, "test": scores, "last_test": scores, "validation": scores, "seed": seed}
        run = make_record("digits", label, **blank)
        own = {
            "data": data,
            "method": method,
            "variant": method,
            "labels": Labels(data=info.label, method=label),
            "order": Order(
                data=list(DATASETS).index(data), method=order.index(method) if method in order else len(order)
            ),
            "kind": info.kind,
            "selection": info.selection,
            "splits": {"counts": _counts(data)},
            **fields,
        }
        runs.append(run.model_copy(update=own))
    return runs


def _counts(data: str) -> dict[str, Any]:
    """As records have them."""
    published = DATASETS[data].published
    parts, sizes = ("train", "validation", "test"), "train / validation / test"
    if data == "nyuv2":
        return {"train": 636, "validation": 159, "test": 654}
    if sizes in published:
        return dict(zip(parts, published[sizes], strict=True))
    keys = [task.key for task in DATASETS[data].tasks]
    return {part: {key: published[f"{key}: {sizes}"][place] for key in keys} for place, part in enumerate(parts)}


def _scores(
    tasks: Sequence[TaskRecord], columns: Sequence[PaperColumn], name: str, cells: Mapping[str, str], place: int
) -> Scores:
    """The scores of the seed at this place."""
    scores: Scores = {}
    printed = {(column.task, column.metric.key): (column, float(cells[column.csv])) for column in columns}
    for index, task in enumerate(tasks):
        scores[task.key] = {}
        for metric in task.metrics:
            # Where the paper printed an average only, tasks lie around it in pairs.
            column, value = printed.get((task.key, metric.key)) or printed.get((AVERAGE, "accuracy"), (columns[0], 0.5))
            around = 0.0 if (task.key, metric.key) in printed else 0.5 * (-1) ** index
            spread = random.Random(f"{name} {task.key} {metric.key}").sample(DEVIATIONS, 3)
            scores[task.key][metric.key] = (value + around) / column.scale * (1 + spread[place])
    return scores
