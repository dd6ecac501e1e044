"""Tables of test scores: which columns a study has, and how its rows are filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from bench.records.record import MetricRecord, Scores
from bench.reporting.estimates.summary import deviation, mean
from bench.reporting.study import Study, Variant, show_settings
from bench.reporting.tables.measures import (
    BySeed,
    Measure,
    average_measure,
    delta_measure,
    finite,
    task_measure,
    worst_measure,
)
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table, transposed

# More tasks than this don't fit side by side on a page.
MOST_COLUMNS = 12
# Printed as 100 times the value.
PERCENT = "%"
DECIMALS: Mapping[str, int] = {PERCENT: 2, "°": 2}
OTHER_DECIMALS = 4
CONSTANT = "Constant answer"
BOLD_RULE = "Bold: best mean of a column among rows with every seed finished; means that print alike share it."


def score_tables(study: Study, spread: bool) -> tuple[Table, ...]:
    """All tables of scores of a study, the main one first. `spread`: with the standard deviation over seeds."""
    if study.selection == "gain":
        return (_gain_table(study, spread),)
    metrics = study.tasks[0].metrics
    if len(study.tasks) <= MOST_COLUMNS:
        return (_accuracy_table(study, metrics[0], spread),)
    return (_summary_table(study, spread), *(_task_table(study, metric, spread) for metric in metrics))


def _accuracy_table(study: Study, metric: MetricRecord, spread: bool) -> Table:
    measures = [task_measure(task, metric, task.label, "") for task in study.tasks]
    caption = f"{_what(metric)} on the test set of each task, and their average (Avg)"
    return _table(study, "scores", [*measures, average_measure(study, metric)], caption, spread)


def _summary_table(study: Study, spread: bool) -> Table:
    measures: list[Measure] = []
    for metric in study.tasks[0].metrics:
        measures += [average_measure(study, metric, _what(metric)), worst_measure(study, metric, _what(metric))]
    caption = (
        f"Test scores, averaged over {len(study.tasks)} tasks (Avg) and of the task with the worst mean over seeds"
    )
    return _table(study, "scores", measures, caption, spread)


def _task_table(study: Study, metric: MetricRecord, spread: bool) -> Table:
    measures = [task_measure(task, metric, task.label, "") for task in study.tasks]
    caption = f"{_what(metric)} {measures[0].arrow} on the test set of each task"
    table = _table(study, f"tasks-{metric.key}", measures, caption, spread)
    arrowless = tuple(Column(replace(c.head, text=m.head)) for c, m in zip(table.columns, measures, strict=True))
    by_row = table.caption.replace("of a column among rows", "of a row among columns")
    return transposed(replace(table, columns=arrowless, caption=by_row), "Task")


def _gain_table(study: Study, spread: bool) -> Table:
    measures = [task_measure(task, metric, metric.label, task.label) for task in study.tasks for metric in task.metrics]
    gain = replace(delta_measure(study), head=f"Δ_b ({PERCENT})")
    metrics = [metric for task in study.tasks for metric in task.metrics if metric.unit]
    units = "; ".join(
        f"{', '.join(m.label for m in metrics if m.unit == unit)} in {unit}"
        for unit in dict.fromkeys(m.unit for m in metrics)
    )
    caption = (
        f"Test scores{f' ({units})' if units else ''}. Δ_b: relative gain over EW, mean over the metrics of a task, "
        "then over tasks, each seed against the EW run of the same seed"
    )
    return _table(study, "scores", [*measures, gain], caption, spread)


def _what(metric: MetricRecord) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _table(study: Study, name: str, measures: Sequence[Measure], caption: str, spread: bool) -> Table:
    filled = [_cells(measures, _scores(variant), spread) for variant in study.variants]
    filled = _embolden(filled, [variant in study.complete for variant in study.variants], measures)
    rows = [
        Row(Head(v.label, v.notes, {"variant": v.key, "method": v.label}), cells)
        for v, cells in zip(study.variants, filled, strict=True)
    ]
    if study.reference:
        rows.append(_constant_row(study, measures))
    columns = tuple(Column(_head(measure), "right" if measure.detail is None else "left") for measure in measures)
    groups = tuple(Group(text, len(list(same))) for text, same in groupby(measure.group for measure in measures))
    if not any(group.text for group in groups):
        groups = ()
    whole = f"{study.label}. {caption}. {circumstances(study, spread)} {BOLD_RULE}"
    return Table(name, f"tab:{study.folder.replace('/', '-')}-{name}", whole, "Method", groups, columns, tuple(rows))


def _head(measure: Measure) -> Head:
    identity = {
        "task": measure.task,
        "metric": measure.metric,
        "unit": measure.unit,
        "direction": measure.direction,
    }
    return Head(f"{measure.head} {measure.arrow}", (), identity)


def _scores(variant: Variant) -> dict[int, Scores]:
    return {seed: run.test for seed, run in variant.scored.items()}


def _cells(measures: Sequence[Measure], scores: BySeed, spread: bool) -> tuple[Cell, ...]:
    return tuple(_cell(measure, scores, spread) for measure in measures)


def _cell(measure: Measure, scores: BySeed, spread: bool) -> Cell:
    """The mean over all seeds of a row, or a missing cell that says why: never a mean over some of them."""
    if not scores:
        return Cell()
    found = finite(measure.values(scores))
    lacking = tuple(seed for seed in scores if seed not in found)
    if lacking:
        return Cell(notes=(measure.absent(lacking),))
    centre, sd = mean(found.values()), deviation(found.values())
    text = show(centre, measure.unit)
    if spread and sd is not None:
        text += f" ± {show(sd, measure.unit)}"
    if measure.detail is not None:
        text += f" ({measure.detail(scores)})"
    return Cell(text, centre, sd, tuple(found))


def _constant_row(study: Study, measures: Sequence[Measure]) -> Row:
    """The reference: the same for every seed, but Δ_b compares it with each seed of EW."""
    seeds = tuple(study.baseline.scored) if study.baseline else ()
    cells = _cells(measures, dict.fromkeys(seeds or study.seeds[:1], study.reference), spread=False)
    head = Head(CONSTANT, (), {"variant": "", "method": CONSTANT})
    return Row(head, tuple(replace(cell, sd=None, seeds=()) for cell in cells), rule=True)


def _embolden(
    rows: Sequence[tuple[Cell, ...]], complete: Sequence[bool], measures: Sequence[Measure]
) -> list[tuple[Cell, ...]]:
    """Marks the best cells of each column; one complete row alone has nothing to be compared with."""
    best: list[str | None] = []
    for place, measure in enumerate(measures):
        means = [row[place].mean for row, whole in zip(rows, complete, strict=True) if whole]
        known = [value for value in means if value is not None]
        pick = max if measure.direction == "higher" else min
        best.append(show(pick(known), measure.unit) if len(known) > 1 else None)

    def marked(cell: Cell, target: str | None, unit: str) -> Cell:
        return replace(cell, bold=cell.mean is not None and show(cell.mean, unit) == target)

    return [
        tuple(marked(c, target, m.unit) for c, target, m in zip(row, best, measures, strict=True)) if whole else row
        for row, whole in zip(rows, complete, strict=True)
    ]


def circumstances(study: Study, spread: bool) -> str:
    """How many seeds, what all rows share, and how epochs were chosen: sentences for a caption."""
    seeds = f"{len(study.seeds)} {'seed' if len(study.seeds) == 1 else 'seeds'}"
    unless = "" if len(study.complete) == len(study.variants) else " unless a note says otherwise"
    what = "Mean ± standard deviation (n-1)" if spread else "Mean"
    sentences = [f"{what} over n={seeds}{unless}."]
    if study.common:
        sentences.append(f"All rows: {show_settings(study.common)}.")
    if study.rules:
        sentences.append(f"Epoch: {'; '.join(study.rules)}.")
    return " ".join(sentences)


def show(value: float, unit: str) -> str:
    """A value as printed: per cent and degrees with 2 decimals, all else with 4."""
    scaled = 100 * value if unit == PERCENT else value
    text = f"{scaled:.{DECIMALS.get(unit, OTHER_DECIMALS)}f}"
    return text.removeprefix("-") if float(text) == 0 else text
