"""What the page shows, in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.comparison import Comparison
from bench.reporting.index import SPEED, Section, environments_table, overview_table, unfinished_table
from bench.reporting.options import unshown
from bench.reporting.page.drawing import Drawing
from bench.reporting.page.rows import NumberedRow, by_label, by_run, numbered
from bench.reporting.page.runs import PageData, RunCurves, page_data
from bench.reporting.page.tables import PageTable, page_table
from bench.reporting.page.verdicts import Card, card
from bench.reporting.sections import Analysis
from bench.reporting.speed.table import summary_table
from bench.reporting.speed.text import circumstances
from bench.reporting.tables.table import Table

# Figures that belong to a table of another name.
BESIDE = {"differences": "verdicts", "profile": "problems"}
# These tables of a problem are open at first; the others are a click away.
OPEN = ("verdicts", "scores")


@dataclass(frozen=True)
class Part:
    """A comparison with its tables and figures. drawings: by file name of the figure. curves: of its runs."""

    analysis: Analysis
    tables: tuple[Table, ...]
    drawings: Mapping[str, Drawing]
    curves: RunCurves

    @property
    def anchor(self) -> str:
        return f"on/{self.analysis.comparison.folder}"


@dataclass(frozen=True)
class Overview:
    """A table over problems, of a part of a study, and its figures."""

    part: str
    table: Table
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class Block:
    """A table with the figures that show the same. is_open: at first."""

    table: PageTable
    drawings: tuple[Drawing, ...]
    is_open: bool = False


@dataclass(frozen=True)
class Problem:
    """A problem's section.

    name, title: as of its card. figures: those of tables that are open at first, and those without a table.
    """

    anchor: str
    name: str
    title: str
    headline: str
    tone: str
    rules: tuple[str, ...]
    blocks: tuple[Block, ...]
    figures: tuple[Drawing, ...]


@dataclass(frozen=True)
class Speed:
    """Timed steps on a machine. folder: of their own report, beside the page."""

    machine: str
    circumstances: str
    folder: str
    table: PageTable | None


@dataclass(frozen=True)
class Page:
    """The page.

    states: numbers of runs by status, of all rows. unshown: which problems are left out on request.
    data: the runs behind the cells.
    """

    states: Mapping[str, int]
    cards: tuple[Card, ...]
    unshown: str
    overviews: tuple[Block, ...]
    unfinished: PageTable | None
    absent: tuple[str, ...]
    problems: tuple[Problem, ...]
    tunings: tuple[PageTable, ...]
    ran: tuple[PageTable, ...]
    speeds: tuple[Speed, ...]
    data: PageData

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """All figures."""
        blocks = [*self.overviews, *(block for problem in self.problems for block in problem.blocks)]
        return (
            *(drawing for block in blocks for drawing in block.drawings),
            *(drawing for problem in self.problems for drawing in problem.figures),
        )


def page_of(
    records: Sequence[Record],
    parts: Sequence[Part],
    overviews: Sequence[Overview] = (),
    tunings: Mapping[str, Table] | None = None,
    speeds: Sequence[SpeedRecord] = (),
) -> Page:
    """The page of all records; problems none of whose rows is shown are named.

    tunings: tables of trials, by file without ending.
    """
    compared = [part.analysis.comparison for part in parts]
    parts = [part for part in parts if part.analysis.comparison.shown]
    rows = numbered([part.analysis.comparison for part in parts])
    of_part = [[row for row in rows if row.problem == place] for place in range(len(parts))]
    cards = [card(p.analysis, p.anchor, own[0].number) for p, own in zip(parts, of_part, strict=True)]
    unfinished = unfinished_table(records)
    ran = [overview_table(compared), environments_table(records)] if records else []
    return Page(
        states=_states(records, compared),
        cards=tuple(cards),
        unshown=unshown(compared),
        overviews=tuple(_over(one, rows) for one in overviews),
        unfinished=page_table(unfinished, "table/unfinished", by_run(rows)) if unfinished else None,
        absent=tuple(f"{one.label}. {one.absent_rows}" for one in compared if one.absent),
        problems=tuple(map(_problem, parts, cards, of_part)),
        tunings=tuple(_tuning(name, table, rows) for name, table in (tunings or {}).items()),
        ran=tuple(page_table(table, f"table/{table.name}") for table in ran if table is not None),
        speeds=tuple(map(_speed, speeds)),
        data=page_data([(part.analysis.comparison, part.analysis.contrasts, part.curves) for part in parts]),
    )


def _states(records: Sequence[Record], compared: Sequence[Comparison]) -> dict[str, int]:
    """Runs by status, and those that a row lacks although other rows of its problem have the seed."""
    counts = Counter(record.status for record in records)
    lacking = {
        (one.data, row.key, seed)
        for one in compared
        for row in one.variants
        for seed in one.seeds
        if seed not in row.runs
    }
    return {**{status: counts[status] for status in ("done", "diverged", "failed")}, "not run": len(lacking)}


def _over(one: Overview, rows: Sequence[NumberedRow]) -> Block:
    same = by_label(row for row in rows if row.comparison.part == one.part)
    return Block(page_table(one.table, f"table/{one.table.name}", same), one.drawings, True)


def _problem(part: Part, of: Card, rows: Sequence[NumberedRow]) -> Problem:
    comparison = part.analysis.comparison
    lost = {row.variant.label: row.lost for row in rows}
    closed = {table.name for table in part.tables} - set(OPEN)
    beside: dict[str, list[Drawing]] = {}
    for name, drawn in part.drawings.items():
        beside.setdefault(BESIDE.get(name, name), []).append(drawn)
    blocks = []
    for table in sorted(part.tables, key=lambda table: table.name != "verdicts"):
        shown = page_table(table, f"{part.anchor}/{table.name}", by_label(rows), lost)
        drawings = tuple(beside[table.name]) if table.name in closed & beside.keys() else ()
        blocks.append(Block(shown, drawings, table.name not in closed))
    printed = Section(comparison, {}, {}).published
    blocks += [Block(page_table(table, f"{part.anchor}/{table.name}"), ()) for table in printed]
    order = sorted(beside, key=lambda name: OPEN.index(name) if name in OPEN else len(OPEN))
    figures = tuple(drawn for name in order if name not in closed for drawn in beside[name])
    return Problem(part.anchor, of.name, of.title, of.headline, of.tone, comparison.rules, tuple(blocks), figures)


def _tuning(name: str, table: Table, rows: Sequence[NumberedRow]) -> PageTable:
    same = [row for row in rows if row.comparison.data == name.partition("/")[0]]
    found = page_table(table, f"tuning/{name}", by_label(same))
    return replace(found, title=" on ".join([found.title, *(row.comparison.problem for row in same[:1])]))


def _speed(speed: SpeedRecord) -> Speed:
    table = summary_table(speed)
    shown = page_table(table, f"speed/{speed.machine}") if table else None
    return Speed(speed.machine, circumstances(speed), f"{SPEED}/{speed.machine}", shown)
