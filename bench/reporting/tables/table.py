"""A table as plain data, independent of how it is printed."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import Literal

MISSING = "--"

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Cell:
    """One value.

    text: as printed.
    mean, sd: over `seeds`, sd with n - 1, at full precision in the recorded unit.
    interval: its ends, likewise.
    notes: footnotes.
    """

    text: str = MISSING
    mean: float | None = None
    sd: float | None = None
    seeds: tuple[int, ...] = ()
    bold: bool = False
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """The head of a row or of a column.

    notes: footnotes.
    identity: what the row or column shows, by column of the CSV file.
    """

    text: str
    notes: tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column's head and the alignment of its cells."""

    head: Head
    align: Align = "right"


@dataclass(frozen=True)
class Group:
    """A head over `span` neighbouring columns; its text may be empty."""

    text: str
    span: int


@dataclass(frozen=True)
class Row:
    """A row's head and cells, one per column.

    rule: a line separates it from the rows above.
    gap: a little space does, in LaTeX.
    aside: it is none of the table's own rows. In Markdown, which has no rules, its head is in italics, as one below a
        rule.
    """

    head: Head
    cells: tuple[Cell, ...]
    rule: bool = False
    gap: bool = False
    aside: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    name: its file name without ending.
    label: for references in LaTeX.
    caption: what it shows, in at most two lines of print.
    stub: the head of the column of row heads.
    groups: heads above those of the columns; empty if there are none.
    supergroups: heads above those of the groups, over columns as well; empty if there are none.
    note: sentences below it, on how its numbers were made; empty for none.
    """

    name: str
    label: str
    caption: str
    stub: str
    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    supergroups: tuple[Group, ...] = ()

    @property
    def levels(self) -> tuple[tuple[Group, ...], ...]:
        """The heads above those of the columns, the topmost first."""
        return tuple(level for level in (self.supergroups, self.groups) if level)

    @property
    def footnotes(self) -> dict[str, str]:
        """Mark of each note by its text, in reading order; notes with the same text share a mark."""
        texts = [note for head in (column.head for column in self.columns) for note in head.notes]
        for row in self.rows:
            texts += [*row.head.notes, *(note for cell in row.cells for note in cell.notes)]
        return dict(zip(dict.fromkeys(texts), _marks(), strict=False))


def _marks() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        yield from ("".join(letters) for letters in product(string.ascii_lowercase, repeat=length))


def transposed(table: Table, stub: str) -> Table:
    """The table with rows and columns exchanged, without column groups and rules."""
    columns = tuple(Column(row.head) for row in table.rows)
    rows = tuple(
        Row(column.head, tuple(row.cells[place] for row in table.rows)) for place, column in enumerate(table.columns)
    )
    return Table(table.name, table.label, table.caption, stub, (), columns, rows, table.note)


def without_rows(table: Table, hidden: Collection[str], remark: str) -> Table:
    """The table without these methods, and with a remark below it; the table itself if there are none.

    hidden: labels of rows, or of columns where methods are side by side. Other cells stay as they are: rows are left
    out of the finished table, so that no number and no mark depends on what is printed.
    """
    if not hidden:
        return table
    rows = tuple(row for row in table.rows if row.head.identity.get("method", row.head.text) not in hidden)
    places = [place for place, one in enumerate(table.columns) if one.head.identity.get("method") not in hidden]
    if len(places) < len(table.columns):  # such tables have no groups of columns
        rows = tuple(replace(row, cells=tuple(row.cells[place] for place in places)) for row in rows)
    columns = tuple(table.columns[place] for place in places)
    return replace(table, columns=columns, rows=rows, note=f"{table.note} {remark}".strip())
