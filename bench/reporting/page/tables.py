"""Tables of the reports as those of the page: every text, with what sorting and opening its runs needs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.reporting.page.rows import RowsOf
from bench.reporting.page.verdicts import ORDER, tone_of, verdict_word
from bench.reporting.tables.table import MISSING, Cell, Column, Group, Head, Table

TITLES = {
    "scores": "Scores",
    "verdicts": "Verdicts",
    "twins": "Frozen twins",
    "times": "Time to target",
    "spread": "Where the uncertainty comes from",
    "budget": "What the budget left",
    "front": "The front of scalarisations",
    "cost": "Cost",
    "tuning": "Tuning",
    "problems": "Over all problems",
    "overview": "Runs by data set",
    "unfinished": "Runs that did not finish",
    "environments": "Where runs were trained",
}
# As the page's script reads a number at the start of a text.
_LEADING_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class PageHead:
    """The head of a row or of a column.

    marks: of its footnotes. rows: indices of the rows whose runs it can show, separated by spaces.
    left: whether cells are aligned to the left. lost: runs that did not finish, in words.
    """

    text: str
    marks: tuple[str, ...]
    rows: str
    left: bool = True
    lost: str = ""


@dataclass(frozen=True)
class PageCell:
    """A cell. tone: class of a verdict. sort: what it is sorted by, unless that is the number it begins with."""

    text: str
    marks: tuple[str, ...]
    left: bool
    bold: bool
    tone: str
    sort: str


@dataclass(frozen=True)
class PageRow:
    """A row's head and cells."""

    head: PageHead
    cells: tuple[PageCell, ...]


@dataclass(frozen=True)
class PageTable:
    """A table.

    about: its caption and note in the reports.
    bodies: its rows, in parts that are sorted on their own; a rule separates them.
    notes: footnotes by mark.
    """

    anchor: str
    title: str
    about: str
    stub: str
    groups: tuple[Group, ...]
    columns: tuple[PageHead, ...]
    bodies: tuple[tuple[PageRow, ...], ...]
    notes: Mapping[str, str]

    @property
    def size(self) -> int:
        """The number of rows."""
        return sum(len(body) for body in self.bodies)


def page_table(
    table: Table, anchor: str, rows_of: RowsOf = lambda identity: (), lost: Mapping[str, str] | None = None
) -> PageTable:
    """The table for the page.

    lost: what runs did not finish, by label of a row.
    """
    marks = table.footnotes
    about = lost or {}

    def head(one: Head, column: Column | None = None) -> PageHead:
        rows = " ".join(str(row) for row in rows_of(one.identity))
        left = column is None or column.align == "left"
        of_row = about.get(one.text, "") if column is None and rows else ""
        return PageHead(one.text, tuple(marks[note] for note in one.notes), rows, left, of_row)

    bodies: list[list[PageRow]] = []
    for row in table.rows:
        if row.rule or not bodies:
            bodies.append([])
        pairs = zip(table.columns, row.cells, strict=True)
        cells = tuple(_cell(column, cell, tuple(marks[note] for note in cell.notes)) for column, cell in pairs)
        bodies[-1].append(PageRow(head(row.head), cells))
    return PageTable(
        anchor=anchor,
        title=title_of(table.name),
        about=f"{table.caption} {table.note}".rstrip(),
        stub=table.stub,
        groups=table.groups,
        columns=tuple(head(column.head, column) for column in table.columns),
        bodies=tuple(tuple(body) for body in bodies),
        notes={mark: note for note, mark in marks.items()},
    )


def title_of(name: str) -> str:
    """The title of a table with this file name: "problems-tuned" is that over all problems of the part "tuned"."""
    start, _, rest = name.partition("-")
    title = TITLES.get(start, start.replace("_", " ").capitalize())
    return f"{title}: {rest}" if rest else title


def _cell(column: Column, cell: Cell, marks: tuple[str, ...]) -> PageCell:
    is_verdict = column.head.identity.get("metric", "").startswith("verdict")
    tone = tone_of(cell.text) if is_verdict else ""
    return PageCell(cell.text, marks, column.align == "left", cell.bold, tone, sort_value(cell, is_verdict))


def sort_value(cell: Cell, is_verdict: bool) -> str:
    """What a cell is sorted by: empty if its text begins with its number, or if it has none."""
    word = verdict_word(cell.text) if is_verdict else None
    if word is not None:
        return str(ORDER.index(word))
    if cell.text == MISSING or cell.mean is None or math.isnan(cell.mean) or _LEADING_NUMBER.match(cell.text):
        return ""
    return "Infinity" if cell.mean == math.inf else f"{cell.mean:.6g}"
