"""Plans the runs of a request or a study, and checks all of them before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.records.again import AGAIN
from bench.records.files import StorageError
from bench.records.record import Record
from bench.records.store import RECORD, BadRecord, RecordError, read_run, run_folder, without_collector
from bench.spec.data_seen import CurrentData, SeenData, data_difference, data_remarks, look_at_data, neighbour_remarks
from bench.spec.lookup import UnknownName, lookup
from bench.spec.resolve import RunKey, RunSpec, resolve, weighting_info
from bench.spec.settings import SpecError
from bench.spec.study import StudyError, StudyRow
from bench.spec.twins import FROZEN, TwinSource, plan_twins
from bench.spec.versions import changed_code, code_remarks, version_remarks, why_stale
from datasets import DATASETS, find, obtain
from datasets.contract import DataError
from methods import METHODS

ALL = "all"
Which = Literal["none", "stale", "all"]  # of the runs that have a record


class PlanError(ValueError):
    """Everything that is wrong with a request, one error per line."""


@dataclass(frozen=True)
class Request:
    """What a user asked for, on the command line or by a study; names as typed.

    only_found: whether data sets that are not on this machine are left out instead of refused.
    otherwise: the data sets to use if none is found.
    sources: the runs whose frozen twins the rows are, if a user named them.
    remarks: for the user, on what was asked for.
    """

    rows: Sequence[StudyRow]
    data: Sequence[str]
    seeds: Sequence[int]
    only_found: bool = False
    otherwise: Sequence[str] = ()
    sources: Sequence[Record] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Again:
    """Which runs are trained again though they have a record.

    which: "stale" are those of other versions of the code than today's.
    done: runs of "all" that this request has trained again already, unless their code has changed since.
    """

    which: Which = "none"
    done: frozenset[RunKey] = frozenset()

    def includes(self, spec: RunSpec, record: Record) -> bool:
        """Whether a run is trained again that has this record."""
        if self.which == "all":
            return spec.key not in self.done or bool(why_stale(record) or changed_code(record))
        return self.which == "stale" and bool(why_stale(record))


@dataclass(frozen=True)
class Plan:
    """The runs of a request.

    pending: still to be trained.
    kept: already in the results, and made from the data that is here now.
    folders: of the data sets, by key.
    current: the data that is here now.
    remarks: for the user: data sets left out, runs kept from other versions, bad records.
    bad: folders of pending runs with a bad record, which has to be moved aside before the run is trained.
    waiting: frozen twins of rows that are not finished; their weights are not known yet.
    again: those of the pending runs that have a record, which stays until the new one is whole.
    records: of the kept runs, in their order.
    """

    pending: list[RunSpec]
    kept: list[RunSpec]
    folders: dict[str, Path]
    current: CurrentData
    remarks: list[str]
    bad: list[Path] = field(default_factory=list)
    waiting: list[RunSpec] = field(default_factory=list)
    again: list[RunSpec] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def make_plan(
    request: Request, data_root: Path, results: Path, make_data: bool = True, again: Again | None = None
) -> Plan:
    """Resolves every run, finds its data and decodes it; makes embedded data unless make_data is False.

    Data is decoded as `datasets.decoding.prepare.preparing` says, for kept runs too: a run is kept only if it saw the
    data that is here now.

    Raises:
        PlanError: lists all errors, not only the first.
    """
    with without_collector():
        return _plan(request, data_root, results, make_data, again or Again())


def _plan(request: Request, data_root: Path, results: Path, make_data: bool, again: Again) -> Plan:
    """As `make_plan`."""
    errors: list[str] = []
    remarks: list[str] = []
    names = data_names(request, errors)
    if request.only_found or _all_data(request):
        names, remarks = found_names(names, request, data_root)
    specs = all_specs(request, names, errors)
    folders = _data_folders(names, data_root, make_data, errors)
    _raise(errors)  # before anything is decoded
    current = look_at_data(specs, folders, errors)
    errors += _other_data(request, specs, current)
    own = _look_at_records(specs, results, current, errors, again)
    twins = twin_runs(request, names, own.kept, results, errors)
    of_twins = _look_at_records(twins.planned, results, current, errors, again)
    _raise(errors)
    pending, kept = [*own.pending, *of_twins.pending], [*own.kept, *of_twins.kept]
    bad = {**own.bad, **of_twins.bad}
    remarks += [
        *request.remarks,
        *bad.values(),
        *version_remarks([record for _, record in kept]),
        *code_remarks([record for _, record in kept]),
        *_unfinished_remarks([spec for spec, _ in kept], results),
        *data_remarks(current, kept),
        *twins.remarks,
    ]
    remarks += neighbour_remarks(current, pending, results, {run_folder(results, *s.key): r for s, r in kept})
    renewed, records = [*own.again, *of_twins.again], [record for _, record in kept]
    specs = [spec for spec, _ in kept]
    return Plan(pending, specs, folders, current, remarks, list(bad), twins.waiting, renewed, records)


def _unfinished_remarks(kept: Sequence[RunSpec], results: Path) -> list[str]:
    """A line per data set with kept runs that were being trained again when that was interrupted."""
    counts = Counter(spec.data for spec in kept if (run_folder(results, *spec.key) / AGAIN).is_dir())
    return [
        f"{data}: {count} kept run{'s are' if count > 1 else ' is'} partly trained again; --force goes on with that."
        for data, count in counts.items()
    ]


@dataclass(frozen=True)
class _Found:
    """Runs by what the results have of them; the members are as in `Plan`. bad: messages by folder."""

    pending: list[RunSpec] = field(default_factory=list)
    kept: list[tuple[RunSpec, Record]] = field(default_factory=list)
    bad: dict[Path, str] = field(default_factory=dict)
    again: list[RunSpec] = field(default_factory=list)


def _look_at_records(
    specs: Sequence[RunSpec], results: Path, current: CurrentData, errors: list[str], again: Again
) -> _Found:
    found = _Found()
    for spec in specs:
        folder, record = run_folder(results, *spec.key), None
        try:
            record = read_run(folder)
            if record is not None and record.status != "failed" and again.includes(spec, record):
                found.again.append(spec)
                record = None
            elif record is not None and not is_kept(spec, record, folder / RECORD, current.of(spec)):
                record = None
        except BadRecord as error:
            found.bad[folder] = str(error)
        except (PlanError, RecordError, StorageError) as error:
            errors.append(str(error))
        if record is None:
            found.pending.append(spec)
        else:
            found.kept.append((spec, record))
    return found


def _other_data(request: Request, specs: Sequence[RunSpec], current: CurrentData) -> list[str]:
    """An error for each run that saw other data than its twin would."""
    seen = {(spec.data, spec.seed): found for spec in specs if (found := current.of(spec))}
    errors = []
    for source in request.sources:
        now = seen.get((source.data, source.seed))
        if now and (difference := data_difference(source, now)):
            errors.append(
                f"{source.data}/{source.variant}, seed {source.seed}: expected a run on the data that is here now, "
                f"found one on {difference}; restore that data, or run the method on today's first."
            )
    return errors


@dataclass(frozen=True)
class TwinRuns:
    """The frozen twins of a request. planned: with known weights. waiting, remarks: as in `Plan`."""

    planned: list[RunSpec]
    waiting: list[RunSpec]
    remarks: list[str]


def twin_runs(
    request: Request, data: Sequence[str], kept: Sequence[tuple[RunSpec, Record]], results: Path, errors: list[str]
) -> TwinRuns:
    """The twins that the rows of a request ask for.

    kept: all runs of the other rows that are finished. Errors are added to `errors`.
    """
    records = {(spec.data, spec.variant, spec.seed): record for spec, record in kept}
    sources = []
    for name in data:
        for row in [row for row in request.rows if row.twin_of and row.is_for(name)]:
            try:
                specs = _source_specs(row, request, name)
            except (UnknownName, SpecError, StudyError) as error:
                errors.append(str(error))
                continue
            by_seed = {spec.seed: records.get((name, spec.variant, spec.seed)) for spec in specs}
            found = {seed: record for seed, record in by_seed.items() if record is not None}
            sources.append(TwinSource(row, specs, found))
    twins = plan_twins(sources, results, errors)
    planned, waiting = (_runs_of(rows) for rows in (twins.rows, twins.waiting))
    return TwinRuns(planned, waiting, list(dict.fromkeys(twins.remarks)))


def every_run(request: Request, data_root: Path, results: Path) -> list[RunSpec]:
    """All runs of a request, finished or not; twins with provisional weights.

    Raises:
        PlanError: lists all errors.
    """
    errors: list[str] = []
    names = data_names(request, errors)
    if request.only_found or _all_data(request):
        names, _ = found_names(names, request, data_root)
    own = all_specs(request, names, errors)
    twins = twin_runs(request, names, [], results, errors)
    _raise(errors)
    return [*own, *twins.waiting]


def _source_specs(row: StudyRow, request: Request, data: str) -> list[RunSpec]:
    """The runs that a row is the twin of, one for each seed.

    Raises:
        StudyError: there is none, or more than one; UnknownName, SpecError: as of `specs_of`.
    """
    sources = row.sources(request.rows, data)
    found = {spec.variant: spec for source in sources for spec in specs_of(source, data, seed=0)}
    if len(found) != 1:
        raise StudyError(
            f"Row {row.label!r}: expected one row {row.twin_of!r} on {data} that it is the twin of, found "
            f"{len(found) or 'none'}; rename the others."
        )
    (spec,) = found.values()
    return [spec.with_seed(seed) for seed in dict.fromkeys(request.seeds)]


def _runs_of(rows: Sequence[tuple[StudyRow, str, Sequence[int]]]) -> list[RunSpec]:
    """The runs of rows, each once, seeds in the outer loop."""
    firsts = [(spec, seeds) for row, data, seeds in rows for spec in specs_of(row, data, seed=0)]
    each = {one.key: one for spec, seeds in firsts for one in map(spec.with_seed, seeds)}
    return sorted(each.values(), key=lambda spec: spec.seed)


def _raise(errors: Sequence[str]) -> None:
    if errors:
        raise PlanError("\n".join(dict.fromkeys(errors)))


def data_names(request: Request, errors: list[str]) -> list[str]:
    """The keys of the requested data sets, each once, found or not; unknown names are added to `errors`."""
    if _all_data(request):
        return list(DATASETS)
    names = []
    for name in request.data:
        try:
            names.append(lookup(DATASETS, "data set", name))
        except UnknownName as error:
            errors.append(str(error))
    return list(dict.fromkeys(names))


def _all_data(request: Request) -> bool:
    return any(name.lower() == ALL for name in request.data)


def found_names(names: Sequence[str], request: Request, data_root: Path) -> tuple[list[str], list[str]]:
    """The data sets that are found or can be made, else the request's alternatives; and remarks on the others."""
    absent = [name for name in names if DATASETS[name].make is None and find(name, data_root) is None]
    remarks = [f"{name}: not found under {data_root}, left out. {DATASETS[name].how}" for name in absent]
    found = [name for name in names if name not in absent]
    if not found and request.otherwise:
        found = list(dict.fromkeys(request.otherwise))
        remarks.append(f"None of these data sets is here; running {', '.join(found)} instead.")
    return found, remarks


def _data_folders(names: Sequence[str], data_root: Path, make_data: bool, errors: list[str]) -> dict[str, Path]:
    """The folder of each data set; embedded data that is not here and may not be made is left out."""
    folders = {}
    for name in names:
        try:
            if make_data or DATASETS[name].make is None or find(name, data_root) is not None:
                folders[name] = obtain(name, data_root)
        except DataError as error:
            errors.append(str(error))
    return folders


def all_specs(request: Request, data: Sequence[str], errors: list[str]) -> list[RunSpec]:
    """All runs but those of twins, each once; errors are added to `errors`.

    Seeds form the outer loop, so that an interrupted study has whole seeds.
    """
    firsts: list[RunSpec] = []
    for name in data:
        for row in [row for row in request.rows if row.is_for(name) and not row.twin_of]:
            try:
                firsts += specs_of(row, name, seed=0)
            except (UnknownName, SpecError, StudyError) as error:
                errors.append(str(error))
    return list({spec.key: spec for seed in request.seeds for spec in _with_seed(firsts, seed, errors)}.values())


def _with_seed(specs: Sequence[RunSpec], seed: int, errors: list[str]) -> list[RunSpec]:
    """The same runs with another seed; none if that can't be one, which is added to `errors`."""
    try:
        return [spec.with_seed(seed) for spec in specs]
    except SpecError as error:
        errors.append(str(error))
        return []


def specs_of(row: StudyRow, data: str, seed: int) -> list[RunSpec]:
    """The runs of a row on a data set, for one seed.

    Raises:
        UnknownName, SpecError, StudyError: the row has an unknown name or an invalid setting.
    """
    settings = row.assignments(_task_count(row, data))
    # A frozen twin without the weights of a source would be EW a second time.
    everything = [name for name in METHODS if name != FROZEN]
    methods: Sequence[str | None] = everything if row.method and row.method.lower() == ALL else [row.method]
    return [
        resolve(data, method, architecture=row.arch, weighting=row.weighting, seed=seed, assignments=assignments)
        for method in methods
        for assignments in settings
    ]


def _task_count(row: StudyRow, data: str) -> int:
    """How many tasks the runs of a row have; a value that is no list is refused when they are resolved."""
    chosen = row.set.get("data.tasks")
    return len(chosen) if isinstance(chosen, list) and chosen else len(DATASETS[data].tasks)


def kept_record(spec: RunSpec, results: Path, seen: SeenData | None) -> Record | None:
    """The record of this run in the results; None if the run is still to be trained.

    seen: the data that is here now, if it is known.

    Raises:
        PlanError: the record was made with other settings or from other data.
        BadRecord: it is damaged; the run is still to be trained. RecordError: it can't be read.
    """
    folder = run_folder(results, spec.data, spec.variant, spec.seed)
    record = read_run(folder)
    return record if record is not None and is_kept(spec, record, folder / RECORD, seen) else None


def _of_older_versions(spec: RunSpec, record: Record) -> list[str]:
    """The sections of settings whose defaults may have been others when the record was made."""
    weighting = record.versions.get("weighting", 1) < weighting_info(spec.weighting).version
    problem = record.versions.get("problem", 1) < spec.info.version
    return [*(["weighting"] if weighting else []), *(["train", "data", "backbone", "heads"] if problem else [])]


def is_kept(spec: RunSpec, record: Record, path: Path, seen: SeenData | None) -> bool:
    """Whether the record at `path` is of this run. A failed run is not kept but trained again.

    A record of an older version of the weighting or the problem is kept even if the defaults of its settings were
    others then.

    Raises:
        PlanError: the record was made with other settings or from other data.
    """
    if record.status == "failed":
        return False
    then, now = dict(record.settings), spec.settings.as_dict()
    if record.overrides == spec.overrides:
        for part in _of_older_versions(spec, record):
            then.pop(part, None)
            now.pop(part, None)
    if then != now:
        raise PlanError(
            f"{path}: made with other settings than today's defaults of {spec.variant}; move it away, or keep both "
            "with another --results."
        )
    difference = data_difference(record, seen) if seen else ""
    if difference:
        raise PlanError(
            f"{path}: expected the data that is here now, found a run on {difference}; restore the data, move the "
            "run's folder away to train it again, or use another --results."
        )
    return True
