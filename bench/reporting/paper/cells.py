"""The cells of a table of the paper, computed from our records; its best numbers are bold by the paper's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.options import Options
from bench.reporting.paper.layout import AVERAGE, GAIN, PaperColumn
from bench.reporting.paper.rows import FilledTable
from bench.reporting.tables.score_columns import ScoreColumn, average_column, delta_column, task_column
from bench.reporting.tables.score_rows import dummy_cells, score_cell, show
from bench.reporting.tables.table import Cell

BOLD_RULE = (
    "Bold: the best mean of a column among rows with every seed finished, as in the paper; it doesn't say that the row "
    "is better than others."
)

Cells = tuple[Cell, ...]


def our_cells(filled: FilledTable, options: Options) -> tuple[Cells, ...]:
    """The means over seeds of each row, in the order of the rows."""
    columns = filled.layout.columns
    rows = [tuple(_cell(filled, c, row.variants.get(c.data), options) for c in columns) for row in filled.rows]
    return _embolden(filled, rows)


def _cell(filled: FilledTable, column: PaperColumn, variant: Variant | None, options: Options) -> Cell:
    if variant is None:
        return Cell()
    scores = {seed: run.test for seed, run in variant.scored.items()}
    return score_cell(_score_column(column, filled.comparisons[column.data]), scores, options)


def _score_column(column: PaperColumn, comparison: Comparison) -> ScoreColumn:
    if column.task == AVERAGE:
        return average_column(comparison, column.metric)
    if column.task == GAIN:
        return delta_column(comparison)
    task = next(task for task in comparison.tasks if task.key == column.task)
    return replace(task_column(task, column.metric, column.head, column.group), unit=column.unit)


def dummy_row(filled: FilledTable, options: Options) -> Cells:
    """The cells of the dummy baseline, missing where no run recorded it; none if no run did."""
    cells: list[Cell] = []
    for column in filled.layout.columns:
        comparison = filled.comparisons.get(column.data)
        known = comparison is not None and comparison.dummies
        cells += (
            dummy_cells(comparison, [_score_column(column, comparison)], options) if comparison and known else [Cell()]
        )
    return tuple(cells) if any(cell.mean is not None for cell in cells) else ()


def _embolden(filled: FilledTable, rows: Sequence[Cells]) -> tuple[Cells, ...]:
    """Marks the best numbers of each column as printed: equal ones share the mark, and one alone has none."""
    marked = [list(cells) for cells in rows]
    for place, column in enumerate(filled.layout.columns):
        comparison = filled.comparisons.get(column.data)
        if comparison is None:
            continue
        sign = 1.0 if column.metric.direction == "higher" else -1.0
        complete = {variant.key for variant in comparison.complete}
        values = {
            index: sign * float(show(cells[place].mean or 0.0, column.unit))
            for index, (row, cells) in enumerate(zip(filled.rows, rows, strict=True))
            if cells[place].mean is not None and row.variants[column.data].key in complete
        }
        for index in (index for index, value in values.items() if len(values) > 1 and value == max(values.values())):
            marked[index][place] = replace(marked[index][place], bold=True)
    return tuple(tuple(cells) for cells in marked)
