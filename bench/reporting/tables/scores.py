"""Tables of test scores: which ones a comparison has, with which columns and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from bench.records.record import MetricRecord
from bench.reporting.comparison import Comparison
from bench.reporting.labels import show_settings
from bench.reporting.options import Options, Spread
from bench.reporting.separable import power_sentence
from bench.reporting.tables.row_columns import row_columns, tuning_remark
from bench.reporting.tables.score_columns import (
    ScoreColumn,
    average_column,
    delta_column,
    gain_column,
    gain_definition,
    single_task_column,
    task_column,
    worst_column,
)
from bench.reporting.tables.score_rows import mark_rule, score_rows
from bench.reporting.tables.table import Cell, Column, Group, Head, Table, transposed

# More tasks than this don't fit side by side on a page.
MOST_COLUMNS = 12
MEANS: Mapping[Spread, str] = {
    "sd": "Mean ± standard deviation (n-1)",
    "ci": "Mean and 95 % interval (Student)",
    "none": "Mean",
}


def score_tables(comparison: Comparison, options: Options) -> tuple[Table, ...]:
    """All tables of scores of a comparison, the main one first."""
    gains = gain_tables(comparison, options) if options.per_task else ()
    if comparison.selection == "gain":
        return (_score_table(comparison, options), *gains)
    metrics = comparison.tasks[0].metrics
    if len(comparison.tasks) <= MOST_COLUMNS:
        return (_accuracy_table(comparison, metrics[0], options), *gains)
    of_tasks = (_task_table(comparison, metric, options) for metric in metrics)
    return (_summary_table(comparison, options), *of_tasks, *gains)


def gain_tables(comparison: Comparison, options: Options) -> tuple[Table, ...]:
    """The relative gain of each row on each task, over EW and over single-task networks, where there are any."""
    baseline = comparison.baseline.scored if comparison.baseline else {}
    references = {"ew": ("EW", baseline), "stl": ("single-task networks", comparison.single_task)}
    tables = []
    for key, (name, runs) in references.items():
        known = {task.key for run in runs.values() for task in run.tasks}
        columns = [gain_column(task, runs, name) for task in comparison.tasks if task.key in known]
        if columns:
            what = f"Relative gain over {name} (%), mean over the metrics of a task, paired by seed"
            tables.append(_long_or_wide(_table(comparison, f"gains-{key}", columns, what, "", options), columns))
    return tuple(tables)


def _accuracy_table(comparison: Comparison, metric: MetricRecord, options: Options) -> Table:
    scores = [task_column(task, metric, task.label, "") for task in comparison.tasks]
    what = f"{metric.label} on the test set of each task, and their average (Avg)"
    return _main_table(comparison, [*scores, average_column(comparison, metric)], what, options)


def _summary_table(comparison: Comparison, options: Options) -> Table:
    scores: list[ScoreColumn] = []
    for metric in comparison.tasks[0].metrics:
        scores += [average_column(comparison, metric, metric.label), worst_column(comparison, metric, metric.label)]
    n_tasks = len(comparison.tasks)
    what = f"Test scores, averaged over {n_tasks} tasks (Avg) and of the task with the worst mean over seeds"
    return _main_table(comparison, scores, what, options)


def _task_table(comparison: Comparison, metric: MetricRecord, options: Options) -> Table:
    scores = [task_column(task, metric, task.label, "") for task in comparison.tasks]
    caption = f"{_with_unit(metric)} {scores[0].arrow} on the test set of each task"
    return _long_or_wide(_table(comparison, f"tasks-{metric.key}", scores, caption, "", options), scores)


def _long_or_wide(table: Table, scores: Sequence[ScoreColumn]) -> Table:
    """With a line for each task, if there are many."""
    if len(scores) <= MOST_COLUMNS:
        return table
    columns = tuple(Column(replace(c.head, text=s.head)) for c, s in zip(table.columns, scores, strict=True))
    note = table.note.replace("of a column, since", "of a line, since")
    return transposed(replace(table, columns=columns, note=note), "Task")


def _score_table(comparison: Comparison, options: Options) -> Table:
    """Every metric of every task."""
    tasks = comparison.tasks
    scores = [task_column(task, metric, metric.label, task.label) for task in tasks for metric in task.metrics]
    return _main_table(comparison, scores, "Test scores", options)


def _main_table(comparison: Comparison, scores: Sequence[ScoreColumn], what: str, options: Options) -> Table:
    """The table of all rows, with relative gains, mean ranks and trials beside the scores."""
    gains = [delta_column(comparison), *filter(None, [single_task_column(comparison)])]
    whole = row_columns(comparison)
    sentences = [gain_definition(comparison), *(column.definition for column in whole), tuning_remark(comparison)]
    table = _table(comparison, "scores", [*scores, *gains], what, " ".join(filter(None, sentences)), options)
    rows = tuple(
        replace(row, cells=(*row.cells, *(c.cells.get(row.head.identity["method"], Cell()) for c in whole)))
        for row in table.rows
    )
    groups = (*table.groups[:-1], Group("", len(gains) + len(whole))) if table.groups else ()
    return replace(table, groups=groups, columns=(*table.columns, *(c.column for c in whole)), rows=rows)


def _with_unit(metric: MetricRecord) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _table(
    comparison: Comparison, name: str, scores: Sequence[ScoreColumn], what: str, note: str, options: Options
) -> Table:
    columns = tuple(Column(_head(score), "right" if score.detail is None else "left") for score in scores)
    groups = tuple(Group(text, len(list(same))) for text, same in groupby(score.group for score in scores))
    if not any(group.text for group in groups):
        groups = ()
    sentences = [note, circumstances(comparison, options.spread), mark_rule(comparison), power_sentence(comparison)]
    label = f"tab:{comparison.folder.replace('/', '-')}-{name}"
    rows, below = score_rows(comparison, scores, options), " ".join(filter(None, sentences))
    return Table(name, label, f"{comparison.label}. {what}.", "Method", groups, columns, rows, below)


def _head(score: ScoreColumn) -> Head:
    identity = {"task": score.task, "metric": score.metric, "unit": score.unit, "direction": score.direction}
    unit = f" ({score.unit})" if score.unit else ""
    return Head(f"{score.head}{unit} {score.arrow}", (), identity)


def circumstances(comparison: Comparison, spread: Spread) -> str:
    """How many seeds, what all rows share, and how epochs were chosen: sentences for a note."""
    seeds = f"{len(comparison.seeds)} {'seed' if len(comparison.seeds) == 1 else 'seeds'}"
    unless = "" if len(comparison.complete) == len(comparison.variants) else " unless a note says otherwise"
    sentences = [f"{MEANS[spread]} over n={seeds}{unless}.", comparison.absent_rows]
    if comparison.common:
        sentences.append(f"All rows: {show_settings(comparison.common)}.")
    if comparison.rules:
        sentences.append(f"Epoch: {'; '.join(comparison.rules)}.")
    return " ".join(filter(None, sentences))
