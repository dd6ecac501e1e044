"""Frozen twins: what a twin replays of the runs of a row, which rows have none, and when it can be planned.

The constants are means over all steps of all finished seeds of the source. They are those of the weights before a clip
of the source, since the twin keeps the clip: applied weights have its factor already, which would then count twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.records.mean_weights import HEAD_WEIGHTS, UNCLIPPED_WEIGHTS, WEIGHTS, mean_weights
from bench.records.record import Record
from bench.records.store import CURVE, RecordError, run_folder
from bench.spec.further_weights import further_weights, head_rule_of
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
    columns = [f"{one}/{task}" for one in (WEIGHTS, *further_weights(spec.settings)) for task in spec.tasks]
    found = mean_weights([folder / CURVE for folder in folders.values()], columns)
    name = UNCLIPPED_WEIGHTS if UNCLIPPED_WEIGHTS in further_weights(spec.settings) else WEIGHTS
    heads = HEAD_WEIGHTS if head_rule_of(spec.settings) == "own" else None
    means = {one: [found[f"{one}/{task}"] for task in spec.tasks] for one in (name, heads) if one}
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
