"""What is done of a study, or of what lies under a folder of results, and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.inventory.listing import aligned
from bench.inventory.states import FoundRun, State, counts, look_at
from bench.records.record import Record
from bench.records.store import RECORD, run_folder, run_name
from bench.spec.kept import is_kept
from bench.spec.request import PlanError, Request, data_names, found_names, raise_all
from bench.spec.resolve import RunSpec
from bench.spec.run_specs import all_specs, twin_runs
from bench.spec.study import Study

# Of these states each run is named, in this order.
_NAMED: Mapping[State, str] = {
    "running": "Running",
    "interrupted": "Interrupted; the same command goes on with them",
    "failed": "Failed",
    "diverged": "Diverged",
    "stale": "Stale; `bench.run --stale` trains them again",
    "damaged": "Damaged",
}
_MOST_NAMED = 40


@dataclass(frozen=True)
class StudyRuns:
    """The runs of a study. missing: names of those without a folder. waiting: twins that wait for their sources."""

    found: list[FoundRun]
    missing: list[str]
    waiting: list[str]
    remarks: list[str]


def study_runs(study: Study, data: Sequence[str], data_root: Path, results: Path) -> StudyRuns:
    """The state of every run of a study; of some of its data sets, if any are named.

    Raises:
        PlanError: the study has invalid rows.
    """
    only_found = study.only_found and not data
    request = Request(study.rows, data or study.data, study.seeds, only_found, study.otherwise)
    errors: list[str] = []
    names, remarks = data_names(request, errors), list[str]()
    if only_found:
        names, remarks = found_names(names, request, data_root)
    own = [(spec, _of_spec(spec, results)) for spec in all_specs(request, names, errors)]
    kept = [
        (spec, run.record) for spec, run in own if run is not None and run.record is not None and _ended(run.record)
    ]
    twins = twin_runs(request, names, kept, results, errors)
    raise_all(errors)
    every = [*own, *((spec, _of_spec(spec, results)) for spec in twins.planned)]
    return StudyRuns(
        [run for _, run in every if run is not None],
        [run_name(*spec.key) for spec, run in every if run is None],
        [f"{run_name(*spec.key)} ({spec.label})" for spec in twins.waiting],
        [*remarks, *twins.remarks],
    )


def _ended(record: Record) -> bool:
    return record.status != "failed"


def _of_spec(spec: RunSpec, results: Path) -> FoundRun | None:
    """The run as it is found; one that was made with other settings than today's counts as stale."""
    folder = run_folder(results, *spec.key)
    run = look_at(folder) if folder.is_dir() else None
    if run is None or run.record is None or run.state not in ("done", "diverged"):
        return run
    try:
        is_kept(spec, run.record, folder / RECORD, seen=None)
    except PlanError:
        return replace(run, state="stale", note="made with other settings than today's defaults")
    return run


def summary(runs: Sequence[FoundRun], missing: Sequence[str] = (), waiting: Sequence[str] = ()) -> str:
    """Counts by data set, and a line for each run that is not simply done."""
    parts = [_table(runs, missing, waiting)]
    for state, title in _NAMED.items():
        some = [run for run in runs if run.state == state]
        parts += [_section(title, [(run.name, run.note) for run in some])] if some else []
    changed = [run for run in runs if run.state == "done" and run.note]
    parts += [_section("Done, but", [(run.name, run.note) for run in changed])] if changed else []
    parts += [_section("Missing", [(name, "") for name in missing])] if missing else []
    parts += [_section("Twins that wait for other runs", [(name, "") for name in waiting])] if waiting else []
    return "\n\n".join(parts)


def _table(runs: Sequence[FoundRun], missing: Sequence[str], waiting: Sequence[str]) -> str:
    by_data: dict[str, dict[str, int]] = {}
    for run_data in dict.fromkeys([*(run.data for run in runs), *(name.partition("/")[0] for name in missing)]):
        found: dict[str, int] = counts([run for run in runs if run.data == run_data])
        lacking = sum(name.partition("/")[0] == run_data for name in missing)
        by_data[run_data] = found | ({"missing": lacking} if lacking else {})
    columns = list(dict.fromkeys(state for found in by_data.values() for state in found))
    if not by_data:
        return "No runs." if not waiting else ""
    rows = [(data, *(str(found.get(state, 0)) for state in columns)) for data, found in by_data.items()]
    total = ("all", *(str(sum(found.get(state, 0) for found in by_data.values())) for state in columns))
    return aligned([("data", *columns), *rows, *([total] if len(rows) > 1 else [])])


def _section(title: str, lines: Sequence[tuple[str, str]]) -> str:
    more = [f"  … and {len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
    shown = [f"  {line}" for line in aligned(lines[:_MOST_NAMED]).splitlines()]
    return "\n".join([f"{title} ({len(lines)}):", *shown, *more])
