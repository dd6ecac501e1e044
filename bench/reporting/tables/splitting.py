"""Tables too wide for a page as several tables of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.reporting.tables.table import Group, Table


def split(table: Table, widest: float, width: Callable[[Table], float]) -> tuple[Table, ...]:
    """The table, or parts of its columns that are at most `widest` where that is possible; groups stay whole.

    The first part keeps the label and the last has the note. width(table) -> its width.
    """
    if width(table) <= widest or table.supergroups:
        return (table,)
    parts: list[list[int]] = []
    for places in _whole(table):
        wider = [*parts[-1], *places] if parts else places
        if parts and width(_part(table, wider)) <= widest:
            parts[-1] = wider
        else:
            parts.append(places)
    found = [_part(table, places) for places in parts]
    named = [found[0], *(_further(part, number) for number, part in enumerate(found[1:], 2))]
    return (*(replace(part, note="") for part in named[:-1]), named[-1])


def _whole(table: Table) -> Iterator[list[int]]:
    """The places of columns that stay together: those of a named group, or a single one."""
    first = 0
    for group in table.groups or (Group("", len(table.columns)),):
        places = list(range(first, first + group.span))
        yield from [places] if group.text else ([place] for place in places)
        first += group.span


def _part(table: Table, places: list[int]) -> Table:
    of_group = [place for place, group in enumerate(table.groups) for _ in range(group.span)]
    counts = {group: sum(of_group[place] == group for place in places) for group in dict.fromkeys(of_group)}
    groups = tuple(replace(table.groups[group], span=count) for group, count in counts.items() if count)
    rows = tuple(replace(row, cells=tuple(row.cells[place] for place in places)) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in places), groups=groups, rows=rows)


def _further(part: Table, number: int) -> Table:
    return replace(part, caption=f"{part.caption.rstrip('.')}, continued.", label=f"{part.label}-{number}")
