"""The runs behind the cells of the page, as the data that its script shows on request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records.plain_text import one_line
from bench.records.record import PERCENT, Record
from bench.records.store import CURVE, RecordError, run_folder
from bench.records.tables import NumberTable, read_numbers
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.contrasts import Contrasts
from bench.reporting.index import ENVIRONMENT
from bench.reporting.labels import show_value
from bench.reporting.overall import overall_unit, test_score
from bench.reporting.series import Tables
from bench.reporting.spacing import evenly_spaced_places
from bench.reporting.statistics import score_of
from bench.reporting.tables.score_rows import show
from bench.reporting.tables.table import MISSING
from bench.reporting.tables.verdicts import number

# Points of a learning curve on the page, and of all curves together; a curve keeps at least as many as the last says.
MOST_POINTS, ALL_POINTS, FEWEST_POINTS = 40, 100_000, 10
_DIGITS = 4  # of a score on a curve; more can't be seen


@dataclass(frozen=True)
class RunData:
    """A run. What is empty is left out of the page.

    reason: why it is not done. remark: why it has no curve.
    settings, machine: indices of the distinct ones.
    overall, scores: on test, as printed; scores in the order of the problem's metrics, separated by spaces.
    epoch: the selected one. curve: validation scores. at: their epochs, unless these are 1, 2, 3, …
    """

    seed: int
    status: str
    reason: str
    remark: str
    settings: int
    machine: int
    overall: str
    scores: str
    epoch: int | None
    epochs: int
    seconds: int
    curve: tuple[float | None, ...]
    at: tuple[int, ...]


@dataclass(frozen=True)
class RunCurve:
    """The learning curve of a run.

    scores: on validation. epochs: theirs, unless these are 1, 2, 3, … remark: why there is none.
    """

    scores: tuple[float | None, ...] = ()
    epochs: tuple[int, ...] = ()
    remark: str = ""


# By row and seed.
RunCurves = Mapping[tuple[str, int], RunCurve]


@dataclass(frozen=True)
class RowData:
    """A row of a problem's tables. problem, runs: indices. missing: seeds that were not run."""

    label: str
    problem: int
    verdict: str
    score: str
    notes: tuple[str, ...]
    runs: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class ProblemData:
    """What the rows of a problem share.

    overall: the head of the overall test score. metrics: heads of the test scores.
    curve: what its learning curves show. settings: those that all runs share.
    """

    label: str
    overall: str
    metrics: tuple[str, ...]
    curve: str
    settings: dict[str, str]


@dataclass(frozen=True)
class PageData:
    """All runs of the page, each once.

    settings: without those that the problem's runs share. points: the most that a curve has.
    """

    problems: tuple[ProblemData, ...]
    rows: tuple[RowData, ...]
    runs: tuple[RunData, ...]
    settings: tuple[dict[str, str], ...]
    machines: tuple[dict[str, str], ...]
    points: int

    def as_json(self) -> dict[str, Any]:
        """The data without what is empty, in types that JSON has; texts are printable."""
        parts = ("problems", "rows", "runs", "settings", "machines")
        return {name: [_plain(one) for one in getattr(self, name)] for name in parts}


def page_data(compared: Sequence[tuple[Comparison, Contrasts, RunCurves]]) -> PageData:
    """The rows of all comparisons that are shown, in order, and their runs."""
    places: dict[tuple[str, str, int], int] = {}
    runs: list[RunData] = []
    settings = _Distinct()
    machines = _Distinct()
    problems, rows = [], []
    for comparison, contrasts, curves in compared:
        records = [run for variant in comparison.shown for run in variant.runs.values()]
        shared = _shared(records)
        problems.append(_problem(comparison, shared))
        for variant in comparison.shown:
            for run in variant.runs.values():
                key = (run.data, run.variant, run.seed)
                if key not in places:
                    places[key] = len(runs)
                    own = {name: text for name, text in _flat(run).items() if name not in shared}
                    numbers = (settings.place(own), machines.place(_machine(run)))
                    runs.append(_run(comparison, run, *numbers, curves[variant.key, run.seed]))
            indices = tuple(places[run.data, run.variant, run.seed] for run in variant.runs.values())
            rows.append(_row(len(problems) - 1, comparison, contrasts, variant, indices))
    points = points_of(runs_of([comparison for comparison, *_ in compared]))
    return PageData(tuple(problems), tuple(rows), tuple(runs), settings.found, machines.found, points)


class _Distinct:
    """Numbers equal dictionaries alike, in the order in which they come."""

    def __init__(self) -> None:
        self._places: dict[tuple[tuple[str, str], ...], int] = {}

    def place(self, one: Mapping[str, str]) -> int:
        return self._places.setdefault(tuple(one.items()), len(self._places))

    @property
    def found(self) -> tuple[dict[str, str], ...]:
        return tuple(dict(items) for items in self._places)


def _flat(run: Record) -> dict[str, str]:
    return {f"{part}.{key}": show_value(value) for part, of in run.settings.items() for key, value in of.items()}


def _shared(runs: Sequence[Record]) -> dict[str, str]:
    """The settings that all runs have alike."""
    first, *others = [_flat(run) for run in runs]
    return {key: text for key, text in first.items() if all(other.get(key) == text for other in others)}


def _machine(run: Record) -> dict[str, str]:
    known = {name: run.environment.get(key) for key, name in ENVIRONMENT.items()}
    return {name: show_value(value) for name, value in known.items() if value is not None}


def _problem(comparison: Comparison, shared: dict[str, str]) -> ProblemData:
    metrics = [(task, metric) for task in comparison.tasks for metric in task.metrics]
    several = any(len(task.metrics) > 1 for task in comparison.tasks)
    heads = [
        (f"{task.label} {metric.label}" if several else task.label) + (f" ({metric.unit})" if metric.unit else "")
        for task, metric in metrics
    ]
    unit = overall_unit(comparison)
    gain = comparison.selection == "gain"
    name = "log gain" if gain else metrics[0][1].label.lower() + (f" ({unit})" if unit else "")
    return ProblemData(comparison.label, f"Overall {name}", tuple(heads), f"Validation {name}", shared)


def _row(
    problem: int, comparison: Comparison, contrasts: Contrasts, variant: Variant, runs: tuple[int, ...]
) -> RowData:
    contrast = contrasts.rows[variant.label]
    unit = overall_unit(comparison)
    score = "" if contrast.score is None else number(contrast.score.value, unit)
    missing = tuple(seed for seed in comparison.seeds if seed not in variant.runs)
    return RowData(variant.label, problem, str(contrast.verdict), score, variant.notes, runs, missing)


def _run(comparison: Comparison, run: Record, settings: int, machine: int, curve: RunCurve) -> RunData:
    unit = overall_unit(comparison)
    done = run.status == "done"
    values = [
        (score_of(run.test, task.key, metric.key), metric.unit) for task in comparison.tasks for metric in task.metrics
    ]
    texts = [show(value, unit) if math.isfinite(value) else MISSING for value, unit in values]
    overall = test_score(run) if done else math.nan
    return RunData(
        seed=run.seed,
        status=run.status,
        reason="" if done else run.reason or "no reason recorded",
        remark=curve.remark,
        settings=settings,
        machine=machine,
        overall=number(overall, unit) if math.isfinite(overall) else MISSING,
        scores=" ".join(texts) if any(text != MISSING for text in texts) else "",
        epoch=run.selected.epoch if run.selected else None,
        epochs=run.epochs,
        seconds=round(run.seconds) if math.isfinite(run.seconds) else 0,
        curve=curve.scores,
        at=curve.epochs,
    )


def run_curves(results: Path, comparison: Comparison, tables: Tables, most: int) -> dict[tuple[str, int], RunCurve]:
    """The learning curves of all runs, with at most so many points.

    tables: those that have been read. What unfinished runs have left need not be readable.

    Raises:
        RecordError, StorageError: the curve of a finished run can't be read.
    """
    scale = 100 if overall_unit(comparison) == PERCENT else 1
    found = {}
    for variant in comparison.shown:
        read = tables.get(variant.key, {})
        for seed, run in variant.runs.items():
            table, remark = (read[seed], "") if seed in read else _read(results, run)
            found[variant.key, seed] = RunCurve(remark=remark) if remark else _curve(table, scale, most)
    return found


def _read(results: Path, run: Record) -> tuple[NumberTable | None, str]:
    """The curve of a run, or why that of an unfinished one can't be read."""
    try:
        return read_numbers(run_folder(results, run.data, run.variant, run.seed) / CURVE, ("epoch", "score")), ""
    except RecordError as error:
        if run.status == "done":
            raise
        return None, str(error)


def _curve(table: NumberTable | None, scale: float, most: int) -> RunCurve:
    pairs = [] if table is None else zip(table["epoch"].tolist(), table["score"].tolist(), strict=True)
    scores = {epoch: scale * score for epoch, score in pairs if math.isfinite(epoch)}  # of an epoch, the last
    if not scores:
        return RunCurve(remark="no learning curve")
    points = sorted(scores.items())
    kept = [points[place] for place in evenly_spaced_places(len(points), most)]
    curve = tuple(float(f"{score:.{_DIGITS}g}") if math.isfinite(score) else None for _, score in kept)
    epochs = tuple(int(epoch) for epoch, _ in kept)
    return RunCurve(curve, () if epochs == tuple(range(1, len(epochs) + 1)) else epochs)


def runs_of(compared: Sequence[Comparison]) -> int:
    """The number of runs of some comparisons, in the rows that are shown."""
    return sum(len(variant.runs) for comparison in compared for variant in comparison.shown)


def points_of(runs: int) -> int:
    """The most points of a curve, if a page has so many."""
    return max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, runs)))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {one_line(key): _plain(one) for key, one in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return {name: _plain(one) for name, one in fields.items() if one not in ("", (), {}, None)}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e9 else value
