"""What to run: the runs that a request or a study stands for, checked in full before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.lookup import UnknownName, lookup
from bench.records.store import RECORD, RecordError, read_record, run_folder
from bench.spec import RunSpec, SpecError, resolve
from datasets import DATASETS, find, obtain
from datasets.contract import DataMissing
from methods import METHODS

STUDIES = Path(__file__).resolve().parent / "studies"
ALL = "all"


class PlanError(ValueError):
    """Everything that is wrong with a request, a line each."""


class Study(BaseModel):
    """A named set of runs: methods × data × seeds, with settings that hold for all of them.

    only_found: data sets that are not on this machine are left out, and said, instead of refused;
    otherwise: the data sets to take when none is found.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    methods: list[str]
    data: list[str]
    otherwise: list[str] = Field(default_factory=list)
    seeds: list[int] = [0, 1, 2]
    set: dict[str, Any] = Field(default_factory=dict)
    only_found: bool = False


@dataclass(frozen=True)
class Request:
    """What a user asked for on the command line, names as typed."""

    methods: Sequence[str]
    data: Sequence[str]
    seeds: Sequence[int]
    architecture: str | None = None
    weighting: str | None = None
    assignments: Mapping[str, Any] = field(default_factory=dict)
    only_found: bool = False
    otherwise: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """Runs still to do, runs already kept, and remarks for the user (data sets left out)."""

    pending: list[RunSpec]
    kept: list[RunSpec]
    folders: dict[str, Path]
    remarks: list[str]


def load_study(name: str) -> Study:
    """A study from bench/studies.

    Raises:
        UnknownName: there is none of that name. PlanError: its file is not a study.
    """
    name = lookup([path.stem for path in sorted(STUDIES.glob("*.yaml"))], "study", name)
    try:
        return Study.model_validate(yaml.safe_load((STUDIES / f"{name}.yaml").read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise PlanError(f"bench/studies/{name}.yaml: {error}") from error


def make_plan(request: Request, data_root: Path, results: Path, make_data: bool = True) -> Plan:
    """Resolves every run and finds its data; embedded data is made unless make_data is False.

    Raises:
        PlanError: holds every fault found, not only the first.
    """
    faults: list[str] = []
    remarks: list[str] = []
    names = _data_names(request, data_root, faults, remarks)
    specs = _specs(request, names, faults)
    folders: dict[str, Path] = {}
    for name in names:
        if not make_data and DATASETS[name].make is not None:
            continue
        try:
            folders[name] = obtain(name, data_root)
        except DataMissing as error:
            faults.append(str(error))
    pending: list[RunSpec] = []
    kept: list[RunSpec] = []
    for spec in specs:
        try:
            (kept if _is_kept(spec, results) else pending).append(spec)
        except (ValueError, RecordError) as error:
            faults.append(str(error))
    if faults:
        raise PlanError("\n".join(dict.fromkeys(faults)))
    return Plan(pending, kept, folders, remarks)


def _data_names(request: Request, data_root: Path, faults: list[str], remarks: list[str]) -> list[str]:
    """The keys of the requested data sets, each once; of `all`, those that are there or can be made."""
    if any(name.lower() == ALL for name in request.data):
        names, only_found = list(DATASETS), True
    else:
        names, only_found = [], request.only_found
        for name in request.data:
            try:
                names.append(lookup(DATASETS, "data set", name))
            except UnknownName as error:
                faults.append(str(error))
    if only_found:
        absent = [name for name in names if DATASETS[name].make is None and find(name, data_root) is None]
        names = [name for name in names if name not in absent]
        remarks += [f"{name}: not found under {data_root}, left out. {DATASETS[name].how}" for name in absent]
        if not names and request.otherwise:
            names = list(request.otherwise)
            remarks.append(f"None of these data sets is here; running {', '.join(names)} instead.")
    return list(dict.fromkeys(names))


def _specs(request: Request, data: Sequence[str], faults: list[str]) -> list[RunSpec]:
    """All runs, seeds outermost: an interrupted study has complete rounds over all methods."""
    methods: Sequence[str | None] = request.methods or [None]
    if any(method and method.lower() == ALL for method in request.methods):
        methods = list(METHODS)
    specs: dict[tuple[str, str, int], RunSpec] = {}
    for seed in request.seeds:
        for name in data:
            for method in methods:
                try:
                    spec = resolve(name, method, request.architecture, request.weighting, seed, request.assignments)
                except (UnknownName, SpecError) as error:
                    faults.append(str(error))
                else:
                    specs[spec.data, spec.variant, spec.seed] = spec
    return list(specs.values())


def _is_kept(spec: RunSpec, results: Path) -> bool:
    """Whether this very run is already recorded; a failed one is tried again.

    Raises:
        ValueError: a record stands in its place that was made with other settings, or can't be read.
    """
    path = run_folder(results, spec.data, spec.variant, spec.seed) / RECORD
    if not path.is_file():
        return False
    record = read_record(path)
    if record.status == "failed":
        return False
    if record.settings != spec.settings():
        raise ValueError(
            f"{path}: made with other settings than today's defaults of {spec.variant}; move it away, or keep both "
            "with another --results."
        )
    return True
