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
from bench.spec.data_seen import CurrentData, data_difference, data_remarks, look_at_data, neighbour_remarks
from bench.spec.kept import is_kept
from bench.spec.request import PlanError, Request, data_names, found_names, raise_all
from bench.spec.resolve import RunKey, RunSpec
from bench.spec.run_specs import all_specs, twin_runs
from bench.spec.versions import changed_code, code_remarks, version_remarks, why_stale
from datasets import DATASETS, find, obtain
from datasets.contract import DataError

Which = Literal["none", "stale", "all"]  # of the runs that have a record


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
    if request.only_found or request.all_data:
        names, remarks = found_names(names, request, data_root)
    specs = all_specs(request, names, errors)
    folders = _data_folders(names, data_root, make_data, errors)
    raise_all(errors)  # before anything is decoded
    current = look_at_data(specs, folders, errors)
    errors += _other_data(request, specs, current)
    own = _look_at_records(request, specs, results, current, errors, again)
    twins = twin_runs(request, names, own.kept, results, errors)
    of_twins = _look_at_records(request, twins.planned, results, current, errors, again)
    raise_all(errors)
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
    request: Request,
    specs: Sequence[RunSpec],
    results: Path,
    current: CurrentData,
    errors: list[str],
    again: Again,
) -> _Found:
    found = _Found()
    for spec in specs:
        folder, record = run_folder(results, *spec.key), None
        try:
            record = read_run(folder)
            if record is not None and record.trial and not request.trials:
                raise PlanError(
                    f"{folder / RECORD}: expected a run that is reported, found a trial of `bench.tune`; use another "
                    "--results, or other seeds."
                )
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
