"""The runs of a request: of its rows, on each data set, with each seed; and the frozen twins of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import Record
from bench.spec.lookup import UnknownName
from bench.spec.request import ALL, Request, data_names, found_names, raise_all
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from bench.spec.study import StudyError, StudyRow
from bench.spec.twins import FROZEN, TwinSource, plan_twins
from datasets import DATASETS
from methods import METHODS


def every_run(request: Request, data_root: Path, results: Path) -> list[RunSpec]:
    """All runs of a request, finished or not; twins with provisional weights.

    Raises:
        PlanError: lists all errors.
    """
    errors: list[str] = []
    names = data_names(request, errors)
    if request.only_found or request.all_data:
        names, _ = found_names(names, request, data_root)
    own = all_specs(request, names, errors)
    twins = twin_runs(request, names, [], results, errors)
    raise_all(errors)
    return [*own, *twins.waiting]


def all_specs(request: Request, data: Sequence[str], errors: list[str]) -> list[RunSpec]:
    """All runs but those of twins, each once; errors are added to `errors`.

    Seeds form the outer loop, so that an interrupted study has whole seeds.
    """
    firsts: list[RunSpec] = []
    wrong: dict[str, list[str]] = {}
    for name in data:
        for row in [row for row in request.rows if row.is_for(name) and not row.twin_of]:
            try:
                firsts += specs_of(row, name, seed=0)
            except (UnknownName, SpecError, StudyError) as error:
                wrong.setdefault(str(error), []).append(row.label)
    every = {row.label for row in request.rows if not row.twin_of}
    errors += [error if every <= {*labels} else _of_rows(error, labels) for error, labels in wrong.items()]
    return list({spec.key: spec for seed in request.seeds for spec in _with_seed(firsts, seed, errors)}.values())


def _of_rows(error: str, labels: Sequence[str]) -> str:
    """An error that not all rows have, with the first that has it; rows without a label are those of a command."""
    label, *others = dict.fromkeys(labels)
    more = f" and {len(others)} more" if others else ""
    return error if not label or repr(label) in error else f"Row {label!r}{more}: {error}"


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
