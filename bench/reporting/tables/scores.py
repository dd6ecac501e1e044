"""Tables of test scores: which ones a comparison has, with which columns and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from bench.records.record import PERCENT, MetricRecord
from bench.reporting.comparison import Comparison
from bench.reporting.labels import show_settings
from bench.reporting.separable import power_sentence
from bench.reporting.tables.row_columns import row_columns, tuning_remark
from bench.reporting.tables.score_columns import (
    GAINS,
    ScoreColumn,
    average_column,
    delta_column,
    gain_definition,
    single_task_column,
    task_column,
    worst_column,
)
from bench.reporting.tables.score_rows import mark_rule, score_rows
from bench.reporting.tables.table import Cell, Column, Group, Head, Table, transposed

# More tasks than this don't fit side by side on a page.
MOST_COLUMNS = 12


def score_tables(comparison: Comparison, spread: bool) -> tuple[Table, ...]:
    """All tables of scores of a comparison, the main one first. `spread`: with the standard deviation over seeds."""
    if comparison.selection == "gain":
        return (_gain_table(comparison, spread),)
    metrics = comparison.tasks[0].metrics
    if len(comparison.tasks) <= MOST_COLUMNS:
        return (_accuracy_table(comparison, metrics[0], spread),)
    return (_summary_table(comparison, spread), *(_task_table(comparison, metric, spread) for metric in metrics))


def _accuracy_table(comparison: Comparison, metric: MetricRecord, spread: bool) -> Table:
    scores = [task_column(task, metric, task.label, "") for task in comparison.tasks]
    what = f"{_with_unit(metric)} on the test set of each task, and their average (Avg)"
    return _main_table(comparison, [*scores, average_column(comparison, metric)], what, spread)


def _summary_table(comparison: Comparison, spread: bool) -> Table:
    scores: list[ScoreColumn] = []
    for metric in comparison.tasks[0].metrics:
        group = _with_unit(metric)
        scores += [average_column(comparison, metric, group), worst_column(comparison, metric, group)]
    n_tasks = len(comparison.tasks)
    what = f"Test scores, averaged over {n_tasks} tasks (Avg) and of the task with the worst mean over seeds"
    return _main_table(comparison, scores, what, spread)


def _task_table(comparison: Comparison, metric: MetricRecord, spread: bool) -> Table:
    scores = [task_column(task, metric, task.label, "") for task in comparison.tasks]
    caption = f"{_with_unit(metric)} {scores[0].arrow} on the test set of each task"
    table = _table(comparison, f"tasks-{metric.key}", scores, caption, spread)
    arrowless = tuple(Column(replace(c.head, text=s.head)) for c, s in zip(table.columns, scores, strict=True))
    by_row = table.caption.replace("of a column, since", "of a row, since")
    return transposed(replace(table, columns=arrowless, caption=by_row), "Task")


def _gain_table(comparison: Comparison, spread: bool) -> Table:
    tasks = comparison.tasks
    scores = [task_column(task, metric, metric.label, task.label) for task in tasks for metric in task.metrics]
    metrics = [metric for task in tasks for metric in task.metrics if metric.unit]
    units = "; ".join(
        f"{', '.join(m.label for m in metrics if m.unit == unit)} in {unit}"
        for unit in dict.fromkeys(m.unit for m in metrics)
    )
    return _main_table(comparison, scores, f"Test scores{f' ({units})' if units else ''}", spread)


def _main_table(comparison: Comparison, scores: Sequence[ScoreColumn], what: str, spread: bool) -> Table:
    """The table of all rows, with relative gains, mean ranks and trials beside the scores."""
    gains = [delta_column(comparison), *filter(None, [single_task_column(comparison)])]
    whole = row_columns(comparison)
    sentences = [f"{what}. {gain_definition(comparison)}", *(column.definition for column in whole)]
    caption = " ".join(filter(None, [*sentences, tuning_remark(comparison)])).removesuffix(".")
    table = _table(comparison, "scores", [*scores, *gains], caption, spread)
    rows = tuple(
        replace(row, cells=(*row.cells, *(c.cells.get(row.head.identity["method"], Cell()) for c in whole)))
        for row in table.rows
    )
    groups = (*table.groups[:-1], Group("", len(gains) + len(whole))) if table.groups else ()
    return replace(table, groups=groups, columns=(*table.columns, *(c.column for c in whole)), rows=rows)


def _with_unit(metric: MetricRecord) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _table(comparison: Comparison, name: str, scores: Sequence[ScoreColumn], caption: str, spread: bool) -> Table:
    columns = tuple(Column(_head(score), "right" if score.detail is None else "left") for score in scores)
    groups = tuple(Group(text, len(list(same))) for text, same in groupby(score.group for score in scores))
    if not any(group.text for group in groups):
        groups = ()
    whole = f"{comparison.label}. {caption}. {circumstances(comparison, spread)} {mark_rule(comparison)}"
    whole = f"{whole} {power_sentence(comparison)}".rstrip()
    label = f"tab:{comparison.folder.replace('/', '-')}-{name}"
    return Table(name, label, whole, "Method", groups, columns, score_rows(comparison, scores, spread))


def _head(score: ScoreColumn) -> Head:
    identity = {"task": score.task, "metric": score.metric, "unit": score.unit, "direction": score.direction}
    unit = f" ({PERCENT})" if score.metric in GAINS else ""
    return Head(f"{score.head}{unit} {score.arrow}", (), identity)


def circumstances(comparison: Comparison, spread: bool) -> str:
    """How many seeds, what all rows share, and how epochs were chosen: sentences for a caption."""
    seeds = f"{len(comparison.seeds)} {'seed' if len(comparison.seeds) == 1 else 'seeds'}"
    unless = "" if len(comparison.complete) == len(comparison.variants) else " unless a note says otherwise"
    what = "Mean ± standard deviation (n-1)" if spread else "Mean"
    sentences = [f"{what} over n={seeds}{unless}."]
    if comparison.absent:
        sentences.append(comparison.absent_rows)
    if comparison.common:
        sentences.append(f"All rows: {show_settings(comparison.common)}.")
    if comparison.rules:
        sentences.append(f"Epoch: {'; '.join(comparison.rules)}.")
    return " ".join(sentences)
