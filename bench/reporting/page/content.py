"""What the page shows, in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.comparison import Variant
from bench.reporting.index import SPEED, Section, environments_table, overview_table, unfinished_table
from bench.reporting.page.drawing import Drawing
from bench.reporting.page.runs import PageData, page_data
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
    """A comparison with its tables and figures. drawings: by file name of the figure."""

    analysis: Analysis
    tables: tuple[Table, ...]
    drawings: Mapping[str, Drawing]

    @property
    def anchor(self) -> str:
        return f"on/{self.analysis.comparison.folder}"


@dataclass(frozen=True)
class Block:
    """A table with the figures that show the same. is_open: at first."""

    table: PageTable
    drawings: tuple[Drawing, ...]
    is_open: bool = False


@dataclass(frozen=True)
class Problem:
    """A problem's section. further: figures without a table."""

    anchor: str
    label: str
    headline: str
    tone: str
    rules: tuple[str, ...]
    blocks: tuple[Block, ...]
    further: tuple[Drawing, ...]


@dataclass(frozen=True)
class Speed:
    """Timed steps on a machine. folder: of their own report, beside the page."""

    machine: str
    circumstances: str
    folder: str
    table: PageTable | None


@dataclass(frozen=True)
class Page:
    """The page. states: numbers of runs by status. data: the runs behind the cells."""

    states: Mapping[str, int]
    cards: tuple[Card, ...]
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
            *(drawing for problem in self.problems for drawing in problem.further),
        )


def page_of(
    results: Path,
    records: Sequence[Record],
    parts: Sequence[Part],
    overviews: Sequence[tuple[Table, Drawing | None]] = (),
    tunings: Mapping[str, Table] | None = None,
    speeds: Sequence[SpeedRecord] = (),
) -> Page:
    """The page of all records.

    overviews: tables over problems with their profile. tunings: of trials, by file without ending.

    Raises:
        RecordError, StorageError: the curve of a finished run can't be read.
    """
    compared = [part.analysis.comparison for part in parts]
    numbers = _row_numbers(parts)
    firsts = [min((row for (place, _), row in numbers.items() if place == at), default=0) for at in range(len(parts))]
    cards = tuple(card(p.analysis, p.anchor, first) for p, first in zip(parts, firsts, strict=True))
    over = [_over(table, drawn, numbers) for table, drawn in overviews]
    unfinished, machines = unfinished_table(records), environments_table(records)
    ran = [table for table in (overview_table(compared), machines) if table is not None]
    return Page(
        states=_states(parts),
        cards=cards,
        overviews=tuple(over),
        unfinished=page_table(unfinished, "table/unfinished") if unfinished else None,
        absent=tuple(f"{one.label}. {one.absent_rows}" for one in compared if one.absent),
        problems=tuple(_problem(place, part, one, numbers) for place, (part, one) in enumerate(zip(parts, cards, strict=True))),
        tunings=tuple(_tuning(name, table, parts, numbers) for name, table in (tunings or {}).items()),
        ran=tuple(page_table(table, f"table/{table.name}") for table in ran) if records else (),
        speeds=tuple(map(_speed, speeds)),
        data=page_data(results, [(part.analysis.comparison, part.analysis.contrasts) for part in parts]),
    )


def _row_numbers(parts: Sequence[Part]) -> dict[tuple[int, str], int]:
    """Index of each row among all rows of the page, by place of its problem and label."""
    keys = [(place, v.label) for place, part in enumerate(parts) for v in part.analysis.comparison.variants]
    return {key: number for number, key in enumerate(keys)}


def _states(parts: Sequence[Part]) -> dict[str, int]:
    """Runs by status, each once; and those of a row that other rows of its problem have."""
    runs, missing = {}, set()
    for comparison in (part.analysis.comparison for part in parts):
        for variant in comparison.variants:
            runs |= {(run.data, run.variant, run.seed): run.status for run in variant.runs.values()}
            missing |= {(comparison.data, variant.key, seed) for seed in comparison.seeds if seed not in variant.runs}
    found = Counter(runs.values())
    counts = {status: found[status] for status in ("done", "diverged", "failed")}
    return {**counts, "not run": len(missing - runs.keys())}


def _over(table: Table, drawn: Drawing | None, numbers: Mapping[tuple[int, str], int]) -> Block:
    def rows_of(identity: Mapping[str, str]) -> tuple[int, ...]:
        return tuple(row for (_, label), row in numbers.items() if label == identity.get("method"))

    return Block(page_table(table, f"table/{table.name}", rows_of), (drawn,) if drawn else (), True)


def _problem(place: int, part: Part, of: Card, numbers: Mapping[tuple[int, str], int]) -> Problem:
    comparison = part.analysis.comparison

    def rows_of(identity: Mapping[str, str]) -> tuple[int, ...]:
        number = numbers.get((place, identity.get("method", "")))
        return () if number is None else (number,)

    lost = {variant.label: _lost(variant, comparison.seeds) for variant in comparison.variants}
    names = {table.name for table in part.tables}
    of_table: dict[str, list[Drawing]] = {}
    for name, drawn in part.drawings.items():
        of_table.setdefault(BESIDE.get(name, name), []).append(drawn)
    blocks = [
        Block(
            page_table(table, f"{part.anchor}/{table.name}", rows_of, lost),
            tuple(of_table.get(table.name, ())),
            table.name in OPEN,
        )
        for table in sorted(part.tables, key=lambda table: table.name != "verdicts")
    ]
    printed = Section(comparison, {}, {}).published
    blocks += [Block(page_table(table, f"{part.anchor}/{table.name}"), ()) for table in printed]
    further = tuple(drawn for name, several in of_table.items() if name not in names for drawn in several)
    return Problem(part.anchor, comparison.label, of.headline, of.tone, comparison.rules, tuple(blocks), further)


def _lost(variant: Variant, seeds: Sequence[int]) -> str:
    """The runs of a row that did not finish, in words; empty if all did."""
    counts = Counter(run.status for run in variant.runs.values() if run.status != "done")
    texts = [f"{counts[status]} {status}" for status in ("diverged", "failed") if counts[status]]
    missing = len(set(seeds) - variant.runs.keys())
    return ", ".join([*texts, *([f"{missing} not run"] if missing else [])])


def _tuning(name: str, table: Table, parts: Sequence[Part], numbers: Mapping[tuple[int, str], int]) -> PageTable:
    data = name.partition("/")[0]
    same = {place for place, part in enumerate(parts) if part.analysis.comparison.data == data}

    def rows_of(identity: Mapping[str, str]) -> tuple[int, ...]:
        return tuple(row for (place, label), row in numbers.items() if place in same and label == identity.get("method"))

    return page_table(table, f"tuning/{name}", rows_of)


def _speed(speed: SpeedRecord) -> Speed:
    table = summary_table(speed)
    shown = page_table(table, f"speed/{speed.machine}") if table else None
    return Speed(speed.machine, circumstances(speed), f"{SPEED}/{speed.machine}", shown)
