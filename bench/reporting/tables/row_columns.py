"""Columns that are about rows as a whole: their mean rank, and the trials that tuned them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from bench.records.record import Record
from bench.reporting.comparison import Comparison
from bench.reporting.statistics import deviation, mean, score_of
from bench.reporting.tables.table import Cell, Column, Head

RANK = "MR: rank among the rows (1 is best, ties share), mean over all metrics and seeds."
TUNING = "Tuning: trials that a row's settings were chosen from, on validation."
NOT_TUNED = "No row was tuned."
UNRANKED = "not ranked: a seed or a score is missing"


@dataclass(frozen=True)
class RowColumn:
    """A column with one cell per row, by label. definition: a sentence for the caption."""

    column: Column
    cells: Mapping[str, Cell]
    definition: str


def row_columns(comparison: Comparison) -> tuple[RowColumn, ...]:
    """The columns that there is something to show in."""
    return tuple(found for found in (_mean_rank(comparison), _tuning(comparison)) if found is not None)


def tuning_remark(comparison: Comparison) -> str:
    """A sentence, if it is known that no row was tuned."""
    trials = [variant.trials for variant in comparison.variants]
    return NOT_TUNED if trials and all(number == 0 for number in trials) else ""


def _tuning(comparison: Comparison) -> RowColumn | None:
    if not any(variant.trials for variant in comparison.variants):
        return None
    cells = {v.label: Cell("not known" if v.trials is None else str(v.trials)) for v in comparison.variants}
    head = Head("Tuning", (), {"metric": "tuning_trials"})
    return RowColumn(Column(head), cells, TUNING)


def _mean_rank(comparison: Comparison) -> RowColumn | None:
    """None if fewer than two rows have every seed and score."""
    rows = [v for v in comparison.complete if all(_is_whole(run, comparison) for run in v.scored.values())]
    if len(rows) < 2:
        return None
    by_seed = [_ranks([row.scored[seed] for row in rows], comparison) for seed in comparison.seeds]  # (rows,) each
    cells = {variant.label: Cell(notes=(UNRANKED,) if variant.scored else ()) for variant in comparison.variants}
    for place, row in enumerate(rows):
        ranks = [float(of_seed[place]) for of_seed in by_seed]
        cells[row.label] = Cell(f"{mean(ranks):.2f}", mean(ranks), deviation(ranks), comparison.seeds)
    head = Head("MR ↓", (), {"task": "all", "metric": "mean_rank", "direction": "lower"})
    return RowColumn(Column(head), cells, RANK)


def _is_whole(run: Record, comparison: Comparison) -> bool:
    return all(
        math.isfinite(score_of(run.test, task.key, metric.key)) for task in comparison.tasks for metric in task.metrics
    )


def _ranks(runs: Sequence[Record], comparison: Comparison) -> npt.NDArray[np.float64]:
    """The mean over all metrics of each run's rank, (rows,)."""
    ranks = []
    for task in comparison.tasks:
        for metric in task.metrics:
            sign = -1.0 if metric.direction == "higher" else 1.0
            ranks.append(rankdata([sign * score_of(run.test, task.key, metric.key) for run in runs]))
    return np.mean(ranks, axis=0)
