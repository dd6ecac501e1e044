"""The options --method frozen --from RUN: the frozen twins of finished runs, as a request."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.records.record import Record
from bench.records.store import RECORD, SEED_PREFIX, RecordError, read_run
from bench.spec.lookup import UnknownName, lookup
from bench.spec.request import PlanError, Request
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from bench.spec.twins import FROZEN, twin_row, version_difference, why_no_twin
from datasets import DATASETS
from methods import METHODS


def frozen_request(arguments: Namespace, assignments: Mapping[str, Any]) -> Request:
    """The twins of the runs in the folder --from.

    assignments: further settings of the command line.

    Raises:
        PlanError: options that don't go with --from, or runs without a twin. RecordError: a file can't be read.
    """
    _check_options(arguments, assignments)
    folder = arguments.source.absolute()
    records, diverged = _finished(folder)
    first = next(iter(records.values()))
    try:
        spec = _spec_of(first, assignments)
    except (SpecError, UnknownName) as error:
        raise PlanError(f"--from {folder}: {error}") from error
    if reason := why_no_twin(spec):
        raise PlanError(f"--from {folder}: {reason}.")
    if difference := version_difference(list(records.values())):
        raise PlanError(f"--from {folder}: {difference}.")
    data = _data_of(arguments, first.data)
    _check_tasks(data, first, folder)
    row = twin_row(spec, {record.seed: place for place, record in records.items()}, data)
    row = row.model_copy(update={"set": {**row.set, **assignments}})
    seeds = arguments.seeds or sorted(record.seed for record in records.values())
    return Request([row], [data], seeds, sources=list(records.values()), remarks=diverged)


def source_results(arguments: Namespace) -> Path:
    """The results folder that a valid source is in: results/<data>/<variant>[/seed-<s>]."""
    folder: Path = arguments.source.absolute()
    return folder.parents[2 if (folder / RECORD).exists() else 1]


def _check_options(arguments: Namespace, assignments: Mapping[str, Any]) -> None:
    methods = [lookup(METHODS, "method", name) if name.lower() != "all" else name for name in arguments.method]
    if methods != [FROZEN]:
        raise PlanError(f"--from: expected --method {FROZEN}, found {', '.join(methods) or 'none'}.")
    others = {"--study": arguments.study, "--arch": arguments.arch, "--weighting": arguments.weighting}
    if given := [option for option, value in others.items() if value]:
        raise PlanError(f"--from: expected no {given[0]}, since architecture and weights are those of the run.")
    if own := [key for key in assignments if key.partition(".")[0].lower() == "weighting"]:
        raise PlanError(f"--from: expected no --set {own[0]}, since the weights are those of the run.")


def _finished(folder: Path) -> tuple[dict[Path, Record], list[str]]:
    """The finished runs in the folder of a row or of one seed, by folder; and remarks on those that diverged.

    Raises:
        PlanError: there is none, or one that is not finished. RecordError: of a record that can't be read.
    """
    single = (folder / RECORD).exists()
    places = [folder] if single else sorted(place for place in folder.glob(f"{SEED_PREFIX}*") if place.is_dir())
    if not places:
        raise PlanError(
            f"--from {folder}: expected the folder of a run, results/<data>/<variant>, or of one of its seeds, found "
            "no run there."
        )
    found: dict[Path, Record] = {}
    diverged = []
    for place in places:
        record = read_run(place)
        if record is None or record.status == "failed":
            state = "one that is not finished" if record is None else "one that failed"
            raise PlanError(f"--from {place}: expected a finished run, found {state}; train it first.")
        if record.status == "done":
            found[place] = record
        else:
            diverged.append(f"--from {place}: the run diverged; the means are over the other seeds.")
    if not found:
        raise PlanError(f"--from {folder}: expected a run that is done, found only ones that diverged.")
    if len({str(record.settings) for record in found.values()}) > 1:
        raise RecordError(
            f"{folder}: expected seeds with the same settings, found others; name the folder of one seed."
        )
    return found, diverged


def _spec_of(record: Record, assignments: Mapping[str, Any]) -> RunSpec:
    """The run of a record, with its recorded settings. Lists of a partition are those of the command line."""
    settings = {f"{name}.{key}": value for name, part in record.settings.items() for key, value in part.items()}
    recorded = settings.pop("data.splits", "")
    if recorded and "data.splits" not in assignments:
        raise SpecError(f"data.splits: expected the lists of the run, {recorded}; name their folder with --splits.")
    if recorded:
        settings["data.splits"] = assignments["data.splits"]
    spec = resolve(
        record.data,
        architecture=record.architecture,
        weighting=record.weighting,
        seed=record.seed,
        assignments=settings,
    )
    if spec.settings.data.splits != recorded:
        raise SpecError(f"data.splits: expected the lists of the run, {recorded}, found {spec.settings.data.splits}.")
    if spec.variant != record.variant:
        raise SpecError(
            f"expected a run with today's defaults, found {record.variant}, which would be {spec.variant} today; train "
            "it again."
        )
    return spec


def _data_of(arguments: Namespace, source: str) -> str:
    """The data set of the twin: that of --data, else that of the source."""
    if not arguments.data:
        return source
    if len(arguments.data) > 1 or arguments.data[0].lower() == "all":
        raise PlanError("--from: expected at most one data set with --data, found several.")
    return lookup(DATASETS, "data set", arguments.data[0])


def _check_tasks(data: str, record: Record, folder: Path) -> None:
    """Raises PlanError unless the twin has the tasks of its source."""
    theirs, ours = ([task.key for task in DATASETS[name].tasks] for name in (record.data, data))
    if ours != theirs:
        raise PlanError(
            f"--from {folder}: expected a data set with the tasks {', '.join(theirs)}, found {data} with "
            f"{', '.join(ours)}."
        )
