"""Which records and rows the paper's tables are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import ROOT
from bench.cli.planned_rows import planned_tables
from bench.records.names import inside
from bench.records.record import Record
from bench.records.trial_seeds import read_unmixed
from bench.reporting.paper.layout import TABLE1, TABLE4
from bench.reporting.paper.printed import printed_rows
from bench.reporting.paper.sources import PlannedRun, Source
from bench.reporting.planned import PlannedTable
from bench.spec.lookup import same_name
from bench.spec.study import Study, load_study, results_of

# The studies of the paper's tables: of Tables 1 to 3, and of Table 4.
METHODS, ABLATIONS = "paper", "ablation"


def paper_sources(name: str | None, results: Path | None) -> tuple[Source, Source]:
    """The sources of Tables 1 to 3, and of Table 4.

    name: a study that replaces the usual one: that of Table 4, if it has a table of that name, else that of the others.
    results: folder of the records of this study; those of the other study are in its subfolder, or there as well.

    Raises:
        RecordError, UnknownName, StudyError: as of `read_unmixed` and `load_study`.
    """
    given = load_study(name) if name else None
    has_table4 = given is not None and any(table.name == TABLE4.name for table in given.tables)
    first = _source(METHODS, None if has_table4 else given, name, results)
    second = _source(ABLATIONS, given if has_table4 else None, name, results)
    if first.results != second.results:
        return first, second
    # Without settings of its own, no run is an ablation, and no row of the study has to be resolved.
    own = [record for record in first.records if record.overrides and record.data in TABLE4.data]
    if not own:
        return first, replace(second, records=())
    return replace(first, ablations=_ablations(load_study(second.study), own)), second


def _source(usual: str, given: Study | None, name: str | None, results: Path | None) -> Source:
    """The source of a study: the one that was given by this name, or the usual one."""
    if given is not None and name is not None:
        return _source_of(given, name, results or results_of(given))
    study = load_study(usual)
    whole = results or ROOT / "results"
    own = inside(whole, *study.folders)
    return _source_of(study, usual, own if own.is_dir() else whole)


def _source_of(study: Study, name: str, results: Path) -> Source:
    """The study's Table 4, or its first table; all rows of a study without tables."""
    names = sorted((table.name for table in study.tables), key=lambda table: table != TABLE4.name)
    planned = partial(_one_table, study, names[0]) if names else None
    return Source(name, results, read_unmixed(results), planned, tuple(study.seeds))


def _one_table(study: Study, name: str, data: str) -> list[PlannedTable]:
    return [table for table in planned_tables(study, data) if table.name == name]


def _ablations(study: Study, own: Sequence[Record]) -> tuple[PlannedRun, ...]:
    """The runs that the study plans for its Table 4, other than those of the paper's methods.

    own: the runs that have settings of their own.
    """
    return tuple(
        PlannedRun(data, method, overrides)
        for data in dict.fromkeys(record.data for record in own)
        for table in _one_table(study, TABLE4.name, data)
        for row in table.rows
        for method, overrides in row.candidates
        if overrides or not any(same_name(method, name) for name in printed_rows(TABLE1))
    )
