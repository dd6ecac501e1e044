"""What the runs of a comparison logged during training, as bands over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.records.mean_weights import WEIGHTS
from bench.records.store import COSINES, POSITIONS
from bench.records.tables import NumberTable
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.series import Band, Numbers, Tables, bands, read_series

BINS = 40  # of the steps, over which cosines are averaged: single steps are noise
STILL = 1e-9  # a change of weights that counts as none


def score_bands(comparison: Comparison, curves: Tables) -> dict[str, Band]:
    """The validation score over epochs, by variant."""
    found = {variant.key: bands(curves[variant.key], "epoch", ["score"]) for variant in comparison.with_baseline}
    return {key: of["score"] for key, of in found.items() if of}


def task_bands(comparison: Comparison, curves: Tables) -> dict[str, dict[str, Band]]:
    """The first metric of each task on validation, by task and then by variant."""
    columns = {task.key: f"validation/{task.key}/{task.metrics[0].key}" for task in comparison.tasks}
    found = {variant.key: bands(curves[variant.key], "epoch", [*columns.values()]) for variant in comparison.variants}
    by_task = {task: {key: of[column] for key, of in found.items() if column in of} for task, column in columns.items()}
    return {task: of for task, of in by_task.items() if of}


def weight_bands(comparison: Comparison, curves: Tables) -> dict[str, dict[str, Band]]:
    """Task weights over their mean, by variant and then by task; only of rows whose weights change."""
    columns = {f"{WEIGHTS}/{task.key}": task.key for task in comparison.tasks}
    found = {}
    for variant in comparison.variants:
        tables = {seed: shares for seed, table in curves[variant.key].items() if (shares := _shares(table, [*columns]))}
        of = bands({seed: table for seed, (table, _) in tables.items()}, "epoch", [*columns])
        if of and any(moves for _, moves in tables.values()):
            found[variant.key] = {columns[name]: one for name, one in of.items()}
    return found


def _shares(curve: NumberTable, columns: list[str]) -> tuple[NumberTable, bool] | None:
    """The weights of a run over their mean, and whether they change; None without weights."""
    if not all(column in curve for column in columns):
        return None
    weights = curve.of(columns)
    shares = weights / weights.mean(axis=1, keepdims=True)
    moves = bool((np.abs(shares - shares[:1]) > STILL).any())
    return NumberTable(("epoch", *columns), np.column_stack([curve["epoch"], shares])), moves


def position_bands(results: Path, comparison: Comparison, variant: Variant) -> dict[str, Band]:
    """Task positions over steps, by task; none where they are constant, as the settings say."""
    if not any(run.parameters and run.parameters.positions for run in variant.scored.values()):
        return {}
    keys = [task.key for task in comparison.tasks]
    return bands(read_series(results, comparison, variant, POSITIONS, ("step", *keys)), "step", keys)


def agreement_bands(results: Path, comparison: Comparison) -> tuple[dict[str, Band], dict[str, Band]]:
    """The mean cosine of task gradients, and the share of pairs below 0, over steps; by variant.

    Of runs that recorded them (`train.cosines_every`).
    """
    cosines, conflicts = {}, {}
    for variant in comparison.variants:
        tables = read_series(results, comparison, variant, COSINES, ("step",))
        of = bands({seed: _agreement(table) for seed, table in tables.items()}, "step", ("cosine", "conflict"))
        if len(of) == 2:
            cosines[variant.key], conflicts[variant.key] = of["cosine"], of["conflict"]
    return cosines, conflicts


def _agreement(cosines: NumberTable) -> NumberTable:
    """Means over the pairs, and over the steps of each bin."""
    pairs = np.delete(cosines.values, cosines.columns.index("step"), axis=1)
    below = np.where(np.isnan(pairs), np.nan, pairs < 0)
    by_step = np.column_stack([cosines["step"], _means(pairs.T), _means(below.T)])
    bins = np.arange(len(by_step)) * BINS // max(len(by_step), BINS)
    means = [_means(by_step[bins == place]) for place in np.unique(bins)]
    return NumberTable(("step", "cosine", "conflict"), np.array(means).reshape(-1, 3))


def _means(values: Numbers) -> Numbers:
    """The mean of each column without its NaN; NaN for a column of these only."""
    known = (~np.isnan(values)).sum(axis=0)
    return np.divide(np.nansum(values, axis=0), known, out=np.full(len(known), np.nan), where=known > 0)
