"""The trials of rows as ordinary runs, and how they ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records.record import Record
from bench.records.store import RECORD, BadRecord, read_run, run_folder
from bench.records.trials import TrialRun, trial_score
from bench.spec.kept import is_kept
from bench.spec.resolve import RunSpec
from bench.spec.run_specs import specs_of
from bench.spec.study import StudyRow
from bench.tuning.sampler import Sampler, propose
from bench.tuning.space import Space


@dataclass(frozen=True)
class Search:
    """How settings are searched, the same for every method.

    batch: trials of a batch of the sequential sampler.
    seeds: of the runs of each trial; none of them is reported.
    """

    sampler: Sampler
    batch: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A row that is tuned on a data set.

    place: of the row among those of the study.
    row: with the settings of the whole study.
    """

    place: int
    row: StudyRow
    data: str
    space: Space

    @property
    def name(self) -> str:
        """Its label, or that of its runs."""
        return self.row.label or specs_of(self.row, self.data, seed=0)[0].label


@dataclass(frozen=True)
class Trial:
    """A trial of a row on a data set. settings: that it changes; none in trial 0."""

    target: Target
    number: int
    settings: dict[str, Any]

    @property
    def row(self) -> StudyRow:
        """The trial as a row of a study."""
        row = self.target.row
        return row.model_copy(update={"set": {**row.set, **self.settings}, "data": [self.target.data]})

    def spec(self, seed: int) -> RunSpec:
        (spec,) = specs_of(self.row, self.target.data, seed)
        return spec


@dataclass(frozen=True)
class Outcome:
    """How the trials of a target ended.

    known: all trials that are determined so far, by number; runs: those of each, fewer than seeds if some are missing.
    """

    target: Target
    known: tuple[Trial, ...]
    runs: tuple[tuple[TrialRun, ...], ...]
    seeds: int

    @property
    def scores(self) -> list[float]:
        """Of the first trials, up to the first one with a missing run."""
        return _scores(self.runs, self.seeds)

    @property
    def complete(self) -> bool:
        """Whether all trials have ended."""
        return len(self.scores) == self.target.row.trials

    @property
    def best(self) -> Trial:
        """The trial with the highest score, the first of equal ones; trial 0 if none finished."""
        return self.known[max(range(len(self.scores)), key=self.scores.__getitem__)]

    @property
    def unfinished(self) -> list[TrialRun]:
        """Runs that count as worst: diverged, failed, or without a score."""
        return [run for runs in self.runs for run in runs if run.worth == -math.inf]


def outcome(target: Target, search: Search, results: Path) -> Outcome:
    """The trials of a target, from the records of those that have ended.

    Raises:
        RecordError: a record can't be read. PlanError: it was made with other settings.
    """
    known: list[Trial] = []
    runs: list[tuple[TrialRun, ...]] = []
    while len(known) < target.row.trials:
        points = propose(
            target.space, search.sampler, target.row.trials, search.batch, _scores(runs, len(search.seeds))
        )
        new = [_trial(target, place, target.space.settings(points[place])) for place in range(len(known), len(points))]
        if not new:
            break
        known += new
        runs += [_runs_of(trial, search.seeds, results) for trial in new]
    return Outcome(target, tuple(known), tuple(runs), len(search.seeds))


def _trial(target: Target, number: int, settings: dict[str, Any]) -> Trial:
    return Trial(target, number, settings if number else {})


def _scores(runs: Sequence[Sequence[TrialRun]], seeds: int) -> list[float]:
    scores = []
    for some in runs:
        if len(some) < seeds:
            break
        scores.append(trial_score(some))
    return scores


def _runs_of(trial: Trial, seeds: Sequence[int], results: Path) -> tuple[TrialRun, ...]:
    specs = [trial.spec(seed) for seed in seeds]
    records = [(spec, _record_of(spec, results)) for spec in specs]
    return tuple(_run(trial, spec, record) for spec, record in records if record is not None)


def _record_of(spec: RunSpec, results: Path) -> Record | None:
    """The record of a run that has ended; None if there is none, or a damaged one, as the run is then trained again."""
    folder = run_folder(results, spec.data, spec.variant, spec.seed)
    try:
        record = read_run(folder)
    except BadRecord:
        return None
    if record is not None:
        is_kept(spec, record, folder / RECORD, seen=None)  # refuses other settings; a failed run counts as the worst
    return record


def _run(trial: Trial, spec: RunSpec, record: Record) -> TrialRun:
    chosen = record.selected
    return TrialRun(
        data=spec.data,
        row=trial.target.name,
        method=spec.method,
        variant=spec.variant,
        trial=trial.number,
        seed=spec.seed,
        status=record.status,
        selection=record.selection,
        score=chosen.score if chosen else math.nan,
        epoch=chosen.epoch if chosen else 0,
        epochs=record.epochs,
        steps=record.steps,
        seconds=record.seconds,
        threads=int(record.environment.get("threads", 1)) * spec.settings.compute.processes,
        settings=trial.settings,
    )


def trial_runs(outcomes: Sequence[Outcome]) -> list[TrialRun]:
    """All runs for the table of trials, once each: several tables of a study may have the same row."""
    runs = [run for one in outcomes for some in one.runs for run in some]
    return list({(run.data, run.row, run.trial, run.seed): run for run in runs}.values())
