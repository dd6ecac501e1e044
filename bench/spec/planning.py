"""What to run: the runs that a request or a study stands for, checked in full before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import Record
from bench.records.store import RECORD, RecordError, read_record, run_folder
from bench.spec.lookup import UnknownName, lookup
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from bench.spec.study import StudyError, StudyRow
from datasets import DATASETS, find, obtain
from datasets.contract import DataError
from methods import METHODS

ALL = "all"


class PlanError(ValueError):
    """Everything that is wrong with a request, a line each."""


@dataclass(frozen=True)
class Request:
    """What a user asked for on the command line or by a study, names as typed."""

    rows: Sequence[StudyRow]
    data: Sequence[str]
    seeds: Sequence[int]
    only_found: bool = False
    otherwise: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """Runs still to do, runs already kept, and remarks for the user (data sets left out)."""

    pending: list[RunSpec]
    kept: list[RunSpec]
    folders: dict[str, Path]
    remarks: list[str]


def make_plan(request: Request, data_root: Path, results: Path, make_data: bool = True) -> Plan:
    """Resolves every run and finds its data; embedded data is made unless make_data is False.

    Raises:
        PlanError: holds every fault found, not only the first.
    """
    faults: list[str] = []
    remarks: list[str] = []
    names = data_names(request, faults)
    if request.only_found or _all_data(request):
        names = _found_names(names, request, data_root, remarks)
    specs = all_specs(request, names, faults)
    folders: dict[str, Path] = {}
    for name in names:
        if not make_data and DATASETS[name].make is not None:
            continue
        try:
            folders[name] = obtain(name, data_root)
        except DataError as error:
            faults.append(str(error))
    pending: list[RunSpec] = []
    kept: list[RunSpec] = []
    for spec in specs:
        try:
            path = run_folder(results, spec.data, spec.variant, spec.seed) / RECORD
            done = path.is_file() and is_kept(spec, read_record(path), path)
            (kept if done else pending).append(spec)
        except (PlanError, RecordError) as error:
            faults.append(str(error))
    if faults:
        raise PlanError("\n".join(dict.fromkeys(faults)))
    return Plan(pending, kept, folders, remarks)


def data_names(request: Request, faults: list[str]) -> list[str]:
    """The keys of the requested data sets, each once, whether they are here or not."""
    if _all_data(request):
        return list(DATASETS)
    names = []
    for name in request.data:
        try:
            names.append(lookup(DATASETS, "data set", name))
        except UnknownName as error:
            faults.append(str(error))
    return list(dict.fromkeys(names))


def _all_data(request: Request) -> bool:
    return any(name.lower() == ALL for name in request.data)


def _found_names(names: Sequence[str], request: Request, data_root: Path, remarks: list[str]) -> list[str]:
    """Those that are here or can be made; where there are none, what the request wants instead."""
    absent = [name for name in names if DATASETS[name].make is None and find(name, data_root) is None]
    remarks += [f"{name}: not found under {data_root}, left out. {DATASETS[name].how}" for name in absent]
    found = [name for name in names if name not in absent]
    if not found and request.otherwise:
        found = list(dict.fromkeys(request.otherwise))
        remarks.append(f"None of these data sets is here; running {', '.join(found)} instead.")
    return found


def all_specs(request: Request, data: Sequence[str], faults: list[str]) -> list[RunSpec]:
    """All runs, each once, seeds outermost: an interrupted study has complete rounds over all rows."""
    specs: dict[tuple[str, str, int], RunSpec] = {}
    for seed in request.seeds:
        for name in data:
            for row in [row for row in request.rows if row.is_for(name)]:
                try:
                    for spec in specs_of(row, name, seed):
                        specs[spec.data, spec.variant, spec.seed] = spec
                except (UnknownName, SpecError, StudyError) as error:
                    faults.append(str(error))
    return list(specs.values())


def specs_of(row: StudyRow, data: str, seed: int) -> list[RunSpec]:
    """The runs that a row stands for on a data set, for one seed.

    Raises:
        UnknownName, SpecError, StudyError: it names or sets what doesn't exist.
    """
    settings = row.assignments(len(DATASETS[data].tasks))
    methods: Sequence[str | None] = list(METHODS) if row.method and row.method.lower() == ALL else [row.method]
    return [
        resolve(data, method, architecture=row.arch, weighting=row.weighting, seed=seed, assignments=assignments)
        for method in methods
        for assignments in settings
    ]


def is_kept(spec: RunSpec, record: Record, path: Path) -> bool:
    """Whether the record in the place of a run is of this very run; a failed one is tried again.

    Raises:
        PlanError: it was made with other settings.
    """
    if record.status == "failed":
        return False
    if record.settings != spec.settings.as_dict():
        raise PlanError(
            f"{path}: made with other settings than today's defaults of {spec.variant}; move it away, or keep both "
            "with another --results."
        )
    return True
