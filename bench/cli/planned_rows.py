"""The rows of a study's tables, each with the runs that it may show."""

from __future__ import annotations

from collections.abc import Sequence

from bench.reporting.planned import PlannedRow, PlannedTable
from bench.spec.study import Study, StudyRow


def planned_tables(study: Study, data: str) -> list[PlannedTable]:
    """The study's tables for a data set, each row with all the runs that it may show.

    Raises:
        UnknownName, SpecError, StudyError: a row names or sets what doesn't exist.
    """
    return [
        PlannedTable(
            table.name,
            table.title,
            tuple(_planned_row(row, study.rows, data) for row in map(study.complete, table.rows) if row.is_for(data)),
        )
        for table in study.tables
    ]


def _planned_row(row: StudyRow, rows: Sequence[StudyRow], data: str) -> PlannedRow:
    # The only import of torch in a report: the overrides of a row are resolved against the registries of methods and
    # data sets. Reports without such a study read records alone and also run where torch is not installed.
    from bench.spec.run_specs import specs_of

    sources = row.sources(rows, data) if row.twin_of else [row]
    specs = [spec for source in sources for spec in specs_of(source, data, seed=0)]
    trials = row.trials or max((source.trials for source in sources), default=0)
    return PlannedRow(row.label, tuple((spec.method, spec.overrides) for spec in specs), trials, row.twin_of)
