"""Frozen twins: what a twin replays of the runs of a row, which rows have none, and when it can be planned.

The constants are means over all steps of all finished seeds of the source. They are those of the weights before a clip
of the source, since the twin keeps the clip: applied weights have its factor already, which would then count twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.records.record import Record
from bench.records.store import CURVE, RecordError, run_folder
from bench.records.tables import read_table
from bench.spec.further_weights import HEAD_WEIGHTS, UNCLIPPED_WEIGHTS, WEIGHTS, further_weights, head_rule_of
from bench.spec.resolve import RunSpec, weighting_info
from bench.spec.settings import GramianSettings, plain
from bench.spec.study import StudyRow
from methods.contract import batches_of, clip_of

FROZEN = "frozen"


def why_no_twin(spec: RunSpec) -> str:
    """Why a run has no frozen twin, after the name of its weighting; empty if it has one."""
    info, settings = weighting_info(spec.weighting), spec.settings
    if info.sets_gradient:
        return f"{info.label} sets the shared gradient itself: there are no weights of tasks to freeze"
    if info.constant:
        return f"{info.label} has constant weights: it is its own twin"
    if (count := batches_of(settings.weighting)) > 1:
        return f"{info.label} reads {count} batches at each step, and a twin one"
    if clip_of(settings.weighting) < math.inf and settings.gramian != GramianSettings():
        keys = ", ".join(f"weighting.{key}" for key in plain(settings.gramian))
        return f"{info.label} clips, and its weights before the clip are not recorded unless {keys} are the defaults"
    return ""


def version_difference(records: Sequence[Record]) -> str:
    """What says that runs were made by different versions of the code; empty if nothing does."""
    versions = {str(sorted(record.versions.items())) for record in records}
    if len(versions) < 2:
        return ""
    return f"expected seeds of one version of the code, found {len(versions)}; train the older ones again"


def twin_row(spec: RunSpec, folders: Mapping[int, Path], data: str) -> StudyRow:
    """The row of a run's twin on a data set. Everything but the weighting is as in the source.

    spec: a run of the source.
    folders: of the source's finished runs, by seed.
    data: if it isn't that of the source, only what differs from the defaults there is kept.

    Raises:
        RecordError: a curve can't be read, or a weight in it is not finite.
    """
    tables = [_weights_of(folder / CURVE, spec) for folder in folders.values()]
    name = UNCLIPPED_WEIGHTS if UNCLIPPED_WEIGHTS in further_weights(spec.settings) else WEIGHTS
    heads = HEAD_WEIGHTS if head_rule_of(spec.settings) == "own" else None
    means = {one: [_mean(tables, f"{one}/{task}") for task in spec.tasks] for one in (name, heads) if one}
    return _row(spec, data, means[name], means[heads] if heads else [], sorted(folders))


def provisional_row(spec: RunSpec, seeds: Sequence[int]) -> StudyRow:
    """A row of the same cost as the twin will have, with weights of 1, for runs whose source is not finished."""
    ones = [1.0] * len(spec.tasks)
    return _row(spec, spec.data, ones, ones if head_rule_of(spec.settings) == "own" else [], seeds)


def _row(
    spec: RunSpec, data: str, weights: Sequence[float], head_weights: Sequence[float], seeds: Sequence[int]
) -> StudyRow:
    if data == spec.data:
        sections = spec.settings.as_dict()
        kept = {f"{name}.{key}": value for name, values in sections.items() for key, value in values.items()}
    else:
        kept = dict(spec.overrides)
    kept = {key: value for key, value in kept.items() if not key.startswith("weighting.")}
    if spec.lists:  # settings name the contents of the lists, not their folder
        kept["data.splits"] = str(spec.lists)
    own: dict[str, Any] = {
        "weighting.weights": list(weights),
        "weighting.head_rule": head_rule_of(spec.settings),
        "weighting.source": f"{spec.data}/{spec.variant}",
        "weighting.source_seeds": list(seeds),
    }
    if head_weights:
        own["weighting.head_weights"] = list(head_weights)
    if (bound := clip_of(spec.settings.weighting)) < math.inf:
        own["weighting.max_norm"] = bound
    return StudyRow(arch=spec.architecture, weighting=FROZEN, set={**kept, **own})


@dataclass(frozen=True)
class _Weights:
    """The steps of each epoch of a run, and each column of mean weights over them, as exact fractions."""

    steps: tuple[int, ...]
    columns: Mapping[str, tuple[Fraction, ...]]


def _weights_of(path: Path, spec: RunSpec) -> _Weights:
    names = [f"{one}/{task}" for one in (WEIGHTS, *further_weights(spec.settings)) for task in spec.tasks]
    table = read_table(path, ["step", *names])
    advice = "delete the folder of the run and run it again"
    if table is None or table.empty:
        raise RecordError(f"{path}: expected the curve of a finished run, found none; {advice}.")
    for name in names:
        if wrong := [value for value in table[name].tolist() if not math.isfinite(value)]:
            raise RecordError(f"{path}: expected finite numbers in column {name!r}, found {wrong[0]}; {advice}.")
    ends = [0, *(int(end) for end in table["step"].tolist())]
    steps = tuple(end - start for start, end in pairwise(ends))
    return _Weights(steps, {name: tuple(Fraction(value) for value in table[name].tolist()) for name in names})


def _mean(tables: Sequence[_Weights], name: str) -> float:
    """The mean over all steps of all runs, correctly rounded: the mean of equal numbers is that number."""
    total = sum(n * w for one in tables for n, w in zip(one.steps, one.columns[name], strict=True))
    return float(total / sum(sum(one.steps) for one in tables))


@dataclass(frozen=True)
class TwinSource:
    """What a twin row of a study is made of, on one data set.

    row: the twin row. specs: the runs of its source, one for each seed. records: of those that are finished, by seed.
    """

    row: StudyRow
    specs: Sequence[RunSpec]
    records: Mapping[int, Record]


@dataclass(frozen=True)
class Twins:
    """The twins of a request.

    rows: each with its data set and its seeds, for runs that can be planned.
    waiting: the same for those whose source is not finished, with provisional weights.
    remarks: on rows without a twin and on rows that wait.
    """

    rows: list[tuple[StudyRow, str, Sequence[int]]] = field(default_factory=list)
    waiting: list[tuple[StudyRow, str, Sequence[int]]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def plan_twins(sources: Iterable[TwinSource], results: Path, errors: list[str]) -> Twins:
    """Which twins can be planned now. Curves that can't be read are added to `errors`."""
    twins = Twins()
    for source in sources:
        spec, records = source.specs[0], source.records
        seeds = [one.seed for one in source.specs]
        place, name = f"{spec.data}, {source.row.label}", f"{spec.data}/{spec.variant}"
        if reason := why_no_twin(spec):
            twins.remarks.append(f"{place}: left out; {reason}.")
            continue
        if missing := [str(seed) for seed in seeds if seed not in records]:
            which = f"seed{'s' * (len(missing) > 1)} {', '.join(missing)}"
            twins.remarks.append(f"{place}: waits until {which} of {name} {'are' if missing[1:] else 'is'} finished.")
            twins.waiting.append((provisional_row(spec, seeds), spec.data, seeds))
            continue
        if difference := version_difference(list(records.values())):
            twins.remarks.append(f"{place}: left out; {name}: {difference}.")
            continue
        done = [seed for seed in seeds if records[seed].status == "done"]
        if lost := [str(seed) for seed in seeds if seed not in done]:
            rest = "the means are over the other seeds" if done else "left out"
            twins.remarks.append(f"{place}: {name} diverged with seed {', '.join(lost)}; {rest}.")
        if done:
            folders = {seed: run_folder(results, spec.data, spec.variant, seed) for seed in done}
            try:
                twins.rows.append((twin_row(spec, folders, spec.data), spec.data, seeds))
            except RecordError as error:
                errors.append(str(error))
    return twins
