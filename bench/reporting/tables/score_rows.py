"""The rows of a table of scores: means over seeds, the best and what is not separable from them in bold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.inference.bootstrap import seed_interval
from bench.reporting.options import Options
from bench.reporting.separable import fewest_for_marks, maybe_best
from bench.reporting.statistics import deviation, mean
from bench.reporting.tables.score_columns import BySeed, ScoreColumn, finite
from bench.reporting.tables.table import Cell, Head, Row

DECIMALS: Mapping[str, int] = {PERCENT: 2, "°": 2}
OTHER_DECIMALS = 4
DUMMY_BASELINE = "Dummy baseline"
BOLD_RULE = (
    "Bold: rows with every seed finished that may be the best of a column, since no other is significantly better "
    "(paired sign-flip tests, 5 %)."
)


def score_rows(comparison: Comparison, columns: Sequence[ScoreColumn], options: Options) -> tuple[Row, ...]:
    """A row for each variant, then the dummy baseline where the records have it."""
    scores = [{seed: run.test for seed, run in variant.scored.items()} for variant in comparison.variants]
    filled = [tuple(score_cell(column, found, options) for column in columns) for found in scores]
    filled = _embolden(comparison, filled, columns)
    rows = [
        Row(Head(v.label, v.notes, {"variant": v.key, "method": v.label}), cells)
        for v, cells in zip(comparison.variants, filled, strict=True)
    ]
    return (*rows, _dummy_row(comparison, columns, options)) if comparison.dummies else tuple(rows)


def score_cell(column: ScoreColumn, scores: BySeed, options: Options) -> Cell:
    """The mean over all seeds of a row, or a missing cell that says why: never a mean over some of them."""
    if not scores:
        return Cell()
    found = finite(column.values(scores))
    lacking = tuple(seed for seed in scores if seed not in found)
    if lacking:
        return Cell(notes=(column.absent(lacking),))
    centre, sd = mean(found.values()), deviation(found.values())
    text = show(centre, column.unit, options.decimals)
    if options.spread == "sd" and sd is not None:
        text += f" ± {show(sd, column.unit, options.decimals)}"
    interval = _interval(tuple(found.values())) if options.spread == "ci" else None
    if interval is not None:
        text += " [{}, {}]".format(*(show(end, column.unit, options.decimals) for end in interval))
    if column.detail is not None:
        text += f" ({column.detail(scores)})"
    return Cell(text, centre, sd, tuple(found), interval=interval)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's over seeds, at 95 %; None for one seed."""
    found = seed_interval(np.array(values))
    return (found.low, found.high) if math.isfinite(found.low) and math.isfinite(found.high) else None


def dummy_cells(comparison: Comparison, columns: Sequence[ScoreColumn], options: Options) -> list[Cell]:
    """The dummy baseline, mean over the seeds of EW; with a spread only if every seed has a partition of its own."""
    scores = comparison.dummies
    first = next(iter(scores.values()), {})
    if any(one != first for one in scores.values()):
        return [score_cell(column, scores, options) for column in columns]
    plain = replace(options, spread="none")
    return [replace(score_cell(column, scores, plain), sd=None, seeds=()) for column in columns]


def _dummy_row(comparison: Comparison, columns: Sequence[ScoreColumn], options: Options) -> Row:
    head = Head(DUMMY_BASELINE, (), {"variant": "", "method": DUMMY_BASELINE})
    return Row(head, tuple(dummy_cells(comparison, columns, options)), rule=True)


def _embolden(
    comparison: Comparison, rows: Sequence[tuple[Cell, ...]], columns: Sequence[ScoreColumn]
) -> list[tuple[Cell, ...]]:
    """Marks the best cells of each column among complete rows, and those that are not separable from them."""
    scores = {v.key: {seed: run.test for seed, run in v.scored.items()} for v in comparison.complete}
    marked = []
    for column in columns:
        values = {key: finite(column.values(found)) for key, found in scores.items()}
        sign = 1.0 if column.direction == "higher" else -1.0
        marked.append(maybe_best(values, comparison.seeds, sign))
    return [
        tuple(replace(cell, bold=variant.key in best) for cell, best in zip(row, marked, strict=True))
        for variant, row in zip(comparison.variants, rows, strict=True)
    ]


def mark_rule(comparison: Comparison) -> str:
    """What bold means: a sentence for a caption."""
    n = len(comparison.seeds)
    fewest = fewest_for_marks(len({variant.key for variant in comparison.complete}))
    if n < fewest:
        return f"Nothing is bold: {n} {'seed' if n == 1 else 'seeds'} (fewer than {fewest}) can't tell rows apart."
    return BOLD_RULE


def show(value: float, unit: str, decimals: int | None = None) -> str:
    """A value as printed; by default, per cent and degrees have 2 decimals, all else has 4."""
    scaled = 100 * value if unit == PERCENT else value
    places = DECIMALS.get(unit, OTHER_DECIMALS) if decimals is None else decimals
    text = f"{scaled:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text
