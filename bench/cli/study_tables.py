"""The tables of a study as reports need them: each row with the runs that it may show."""

from __future__ import annotations

from bench.reporting.study import PlannedRow, PlannedTable
from bench.spec.planning import specs_of
from bench.spec.study import Study


def planned_tables(study: Study, data: str) -> list[PlannedTable]:
    """The study's tables for a data set.

    Raises:
        UnknownName, SpecError, StudyError: a row names or sets what doesn't exist.
    """
    tables = []
    for table in study.tables:
        rows = []
        for row in [row for row in table.rows if row.is_for(data)]:
            specs = specs_of(row, data, seed=0)
            rows.append(PlannedRow(row.label, tuple((spec.method, spec.overrides) for spec in specs)))
        tables.append(PlannedTable(table.name, table.title, tuple(rows)))
    return tables
