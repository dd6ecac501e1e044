"""A table as plain data, before anyone has decided how to print it."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, product
from typing import Literal

MISSING = "--"

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Cell:
    """One value: `mean` and `sd` (n - 1) over `seeds` at full precision in the recorded unit, and `text` as printed."""

    text: str = MISSING
    mean: float | None = None
    sd: float | None = None
    seeds: tuple[int, ...] = ()
    bold: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """The head of a row or of a column; `identity` says in columns of the CSV file what stands there."""

    text: str
    notes: tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column's head and the side on which its cells stand."""

    head: Head
    align: Align = "right"


@dataclass(frozen=True)
class Group:
    """A head over `span` neighbouring columns; empty where they need none."""

    text: str
    span: int


@dataclass(frozen=True)
class Row:
    """A row's head and cells, one per column. `rule`: set off from the rows above by a line."""

    head: Head
    cells: tuple[Cell, ...]
    rule: bool = False


@dataclass(frozen=True)
class Table:
    """A table. `name` is its file name without ending, `label` the LaTeX one, `stub` the head of the row heads."""

    name: str
    label: str
    caption: str
    stub: str
    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def footnotes(self) -> dict[str, str]:
        """Mark of each note, by its text, in reading order; the same text has one mark."""
        texts = [note for head in (column.head for column in self.columns) for note in head.notes]
        for row in self.rows:
            texts += [*row.head.notes, *(note for cell in row.cells for note in cell.notes)]
        return dict(zip(dict.fromkeys(texts), _marks(), strict=False))


def _marks() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        yield from ("".join(letters) for letters in product(string.ascii_lowercase, repeat=length))


def plain_table(
    name: str, caption: str, stub: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> Table:
    """A table of texts: `heads` of the columns, and for each row its head and its cells."""
    columns = tuple(Column(Head(head)) for head in heads)
    filled = tuple(Row(Head(head), tuple(Cell(text) for text in texts)) for head, texts in rows)
    return Table(name, f"tab:{name}", caption, stub, (), columns, filled)


def transposed(table: Table, stub: str) -> Table:
    """The table with rows for columns; column groups and rules don't survive the turn."""
    columns = tuple(Column(row.head) for row in table.rows)
    rows = tuple(
        Row(column.head, tuple(row.cells[place] for row in table.rows)) for place, column in enumerate(table.columns)
    )
    return Table(table.name, table.label, table.caption, stub, (), columns, rows)
