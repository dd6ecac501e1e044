"""What the simulations resample: how real runs of each problem vary over seeds, rows and settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.records.all_records import read_records
from bench.records.record import Record
from bench.records.store import RecordError
from bench.records.trials import TRIALS, TUNING, TrialRun, by_row, read_trials, trial_score
from bench.reporting.inference.describe import Array
from bench.reporting.overall import test_score

LEAST = 2  # rows and seeds


@dataclass(frozen=True)
class Pool:
    """How the overall scores of a problem vary, as shares or log gains.

    rows: their variants. left_out: variants that lack some of these seeds.
    common: effects (seeds,) of a seed that all rows share: its split and test images.
    test, validation: what remains of each row and seed (rows, seeds), with mean zero.
    effects: of settings (any,) on the expected score, relative to the default settings.
    effects_from: where these are from.
    test_grid, validation_grid: the least step of a score; 0 if there is none.
    tuning_seeds: of each trial.
    """

    data: str
    label: str
    selection: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    common: Array
    test: Array
    validation: Array
    effects: Array
    effects_from: str
    test_grid: float
    validation_grid: float
    tuning_seeds: int

    @property
    def paired_sd(self) -> float:
        """Standard deviation of the difference of two rows over seeds, of the whole pool."""
        return math.sqrt(2 * float(np.mean(self.test**2)))


def pools(results: Path) -> list[Pool]:
    """One for each data set, but controls, with at least two rows that have two seeds in common.

    Raises:
        RecordError: there is none, or a record or the table of trials can't be read.
    """
    runs: dict[str, list[Record]] = {}
    for record in read_records(results):
        if record.status == "done" and not record.control and record.selected and math.isfinite(test_score(record)):
            runs.setdefault(record.data, []).append(record)
    trials = read_trials(results / TUNING / TRIALS)
    found = [_pool(same, [run for run in trials if run.data == data]) for data, same in runs.items()]
    kept = [pool for pool in found if pool]
    if not kept:
        raise RecordError(
            f"{results}: expected records of at least {LEAST} rows with {LEAST} seeds in common, found none; "
            "run a study first, or name another folder with --results."
        )
    return kept


def _pool(records: Sequence[Record], trials: Sequence[TrialRun]) -> Pool | None:
    tasks = Counter(tuple(task.key for task in record.tasks) for record in records).most_common(1)[0][0]
    by_row: dict[str, dict[int, Record]] = {}
    for record in records:
        if tuple(task.key for task in record.tasks) == tasks:
            by_row.setdefault(record.variant, {})[record.seed] = record
    seeds = Counter(tuple(sorted(found)) for found in by_row.values()).most_common(1)[0][0]
    rows = tuple(variant for variant, found in by_row.items() if set(seeds) <= set(found))
    if len(rows) < LEAST or len(seeds) < LEAST:
        return None
    kept = {row: by_row[row] for row in rows}
    first = kept[rows[0]][seeds[0]]
    test = np.array([[test_score(kept[row][seed]) for seed in seeds] for row in rows])
    validation = np.array([[_selected(kept[row][seed]) for seed in seeds] for row in rows])
    common, remaining = _split(test)
    noise = _split(validation)[1]
    effects, effects_from, tuning_seeds = _effects(test.mean(axis=1), remaining, noise, trials)
    accuracy = first.selection == "accuracy"
    return Pool(
        first.data, first.labels.data, first.selection, rows, seeds, tuple(row for row in by_row if row not in rows),
        common, remaining, noise, effects, effects_from,
        _grid(first, "test") if accuracy else 0.0, _grid(first, "validation") if accuracy else 0.0, tuning_seeds,
    )  # fmt: skip


def _selected(record: Record) -> float:
    return record.selected.score if record.selected else math.nan


def _split(scores: Array) -> tuple[Array, Array]:
    """Effects of seeds (seeds,) and what remains (rows, seeds), both scaled for the means taken out of them."""
    rows, seeds = scores.shape
    common = scores.mean(axis=0) - scores.mean()
    remaining = scores - scores.mean(axis=1, keepdims=True) - common
    lost = math.sqrt(rows * seeds / ((rows - 1) * (seeds - 1)))
    return common * math.sqrt(seeds / (seeds - 1)), remaining * lost


def _effects(rows: Array, test: Array, noise: Array, trials: Sequence[TrialRun]) -> tuple[Array, str, int]:
    """Effects of settings, where they are from, and the seeds of each trial."""
    rows_of_trials = by_row(trials)
    scores = {
        (row, trial): trial_score(runs) for row, of_row in rows_of_trials.items() for trial, runs in of_row.items()
    }
    found = [score - scores[row, 0] for (row, trial), score in scores.items() if trial and _both(scores, row, score)]
    if not found:
        spread = np.sqrt(np.mean(test**2) / test.shape[1])
        return _shrunk(rows - rows.mean(), spread), "differences between the means of rows, as there are no trials", 1
    seeds = min(len(runs) for of_row in rows_of_trials.values() for runs in of_row.values())
    spread = np.sqrt(2 * np.mean(noise**2) / seeds)
    centred = np.array(found) - np.median(found)
    return np.median(found) + _shrunk(centred, spread), f"{len(found)} trials", seeds


def _both(scores: Mapping[tuple[str, int], float], row: str, score: float) -> bool:
    return math.isfinite(score) and math.isfinite(scores.get((row, 0), math.nan))


def _shrunk(effects: Array, noise: float) -> Array:
    """Effects without the part of their variance that is noise of the scores that they were computed from."""
    variance = float(np.mean(effects**2))
    return effects * math.sqrt(max(0.0, 1 - noise**2 / variance)) if variance else effects


def _grid(record: Record, part: str) -> float:
    """The least step of a mean accuracy: one decision more of all that are correct."""
    counts = (record.splits.get("counts") or {}).get(part, 0)
    decisions = sum(counts.values()) if isinstance(counts, Mapping) else counts * len(record.tasks)
    return 1 / decisions if decisions else 0.0
