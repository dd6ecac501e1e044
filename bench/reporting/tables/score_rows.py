"""The rows of a table of scores: cells with means over seeds, the best in bold, the dummy baseline last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.statistics import deviation, mean
from bench.reporting.tables.score_columns import BySeed, ScoreColumn, finite
from bench.reporting.tables.table import Cell, Head, Row

DECIMALS: Mapping[str, int] = {PERCENT: 2, "°": 2}
OTHER_DECIMALS = 4
DUMMY_BASELINE = "Dummy baseline"
BOLD_RULE = "Bold: best mean of a column among rows with every seed finished; ties as printed are all bold."


def score_rows(comparison: Comparison, columns: Sequence[ScoreColumn], spread: bool) -> tuple[Row, ...]:
    """A row for each variant, then the dummy baseline where the records have it."""
    scores = [{seed: run.test for seed, run in variant.scored.items()} for variant in comparison.variants]
    filled = [tuple(_cell(column, found, spread) for column in columns) for found in scores]
    filled = _embolden(filled, [variant in comparison.complete for variant in comparison.variants], columns)
    rows = [
        Row(Head(v.label, v.notes, {"variant": v.key, "method": v.label}), cells)
        for v, cells in zip(comparison.variants, filled, strict=True)
    ]
    return (*rows, _dummy_row(comparison, columns)) if comparison.dummy else tuple(rows)


def _cell(column: ScoreColumn, scores: BySeed, spread: bool) -> Cell:
    """The mean over all seeds of a row, or a missing cell that says why: never a mean over some of them."""
    if not scores:
        return Cell()
    found = finite(column.values(scores))
    lacking = tuple(seed for seed in scores if seed not in found)
    if lacking:
        return Cell(notes=(column.absent(lacking),))
    centre, sd = mean(found.values()), deviation(found.values())
    text = show(centre, column.unit)
    if spread and sd is not None:
        text += f" ± {show(sd, column.unit)}"
    if column.detail is not None:
        text += f" ({column.detail(scores)})"
    return Cell(text, centre, sd, tuple(found))


def _dummy_row(comparison: Comparison, columns: Sequence[ScoreColumn]) -> Row:
    """The dummy baseline: its scores are the same for every seed, its Δ_b is the mean over the seeds of EW."""
    seeds = tuple(comparison.baseline.scored) if comparison.baseline else ()
    scores = dict.fromkeys(seeds or comparison.seeds[:1], comparison.dummy)
    cells = [replace(_cell(column, scores, spread=False), sd=None, seeds=()) for column in columns]
    return Row(Head(DUMMY_BASELINE, (), {"variant": "", "method": DUMMY_BASELINE}), tuple(cells), rule=True)


def _embolden(
    rows: Sequence[tuple[Cell, ...]], complete: Sequence[bool], columns: Sequence[ScoreColumn]
) -> list[tuple[Cell, ...]]:
    """Marks the best cells of each column; a single complete row has nothing to be compared with."""
    best: list[str | None] = []
    for place, column in enumerate(columns):
        means = [row[place].mean for row, whole in zip(rows, complete, strict=True) if whole]
        known = [value for value in means if value is not None]
        pick = max if column.direction == "higher" else min
        best.append(show(pick(known), column.unit) if len(known) > 1 else None)

    def marked(cell: Cell, target: str | None, unit: str) -> Cell:
        return replace(cell, bold=cell.mean is not None and show(cell.mean, unit) == target)

    return [
        tuple(marked(c, target, m.unit) for c, target, m in zip(row, best, columns, strict=True)) if whole else row
        for row, whole in zip(rows, complete, strict=True)
    ]


def show(value: float, unit: str) -> str:
    """A value as printed: per cent and degrees with 2 decimals, all else with 4."""
    scaled = 100 * value if unit == PERCENT else value
    text = f"{scaled:.{DECIMALS.get(unit, OTHER_DECIMALS)}f}"
    return text.removeprefix("-") if float(text) == 0 else text
