"""The index page: what ran, where, and links to every table and figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.comparison import Comparison
from bench.reporting.labels import show_settings
from bench.reporting.options import unshown
from bench.reporting.render import index
from bench.reporting.speed.table import summary_table
from bench.reporting.speed.text import circumstances
from bench.reporting.tables.published import published
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

# Keys of `Record.environment` that matter to a reader of the numbers, and their names on the page.
ENVIRONMENT = {
    "device": "Device",
    "cpu": "CPU",
    "threads": "Threads",
    "torch": "PyTorch",
    "python": "Python",
    "commit": "Commit",
}
# In the first lines of every index, so that no other file is taken for one and overwritten.
MARK = "Generated from the records by `python -m bench.report`"
# Folder of the reports of measurements of steps.
SPEED = "speed"


@dataclass(frozen=True)
class Section:
    """One comparison's part of the index.

    tables: Markdown of each table, by file name without ending.
    figures: title of each figure, by file name without ending.
    """

    comparison: Comparison
    tables: Mapping[str, str]
    figures: Mapping[str, str]

    @property
    def published(self) -> tuple[Table, ...]:
        """The paper's tables, which are of all tasks."""
        if self.comparison.chosen:
            return ()
        return published(self.comparison.data, self.comparison.label, self.comparison.part)


@dataclass(frozen=True)
class Overview:
    """A table over problems.

    name: its file, without ending. table: its Markdown.
    figures: title of each figure, by file name without ending.
    """

    name: str
    table: str
    figures: Mapping[str, str]


@dataclass(frozen=True)
class SpeedSection:
    """One machine's part of the index; no summary if only the scaling was measured."""

    machine: str
    circumstances: str
    summary: Table | None

    @property
    def folder(self) -> str:
        return f"{SPEED}/{self.machine}"


def index_page(
    records: Sequence[Record],
    compared: Sequence[Comparison],
    sections: Sequence[Section],
    speeds: Sequence[SpeedRecord],
    overviews: Sequence[Overview] = (),
    tunings: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The index page; the same input gives the same bytes.

    compared: all comparisons. sections: those with tables and figures to link to. overviews: tables over problems.
    tunings: Markdown of the tables of trials, by file without ending.
    """
    return index(
        mark=MARK,
        overview=overview_table(compared),
        unshown=unshown(compared),
        unfinished=unfinished_table(records),
        environments=environments_table(records),
        sections=sections,
        overviews=overviews,
        tunings=tunings,
        speeds=[SpeedSection(speed.machine, circumstances(speed), summary_table(speed)) for speed in speeds],
    )


def overview_table(compared: Sequence[Comparison]) -> Table:
    heads = ("Rows", "Methods", "Seeds", "Done", "Diverged", "Failed", "Not run")
    rows = []
    for comparison in compared:
        runs = [run for variant in comparison.variants for run in variant.runs.values()]
        states = Counter(run.status for run in runs)
        methods = ", ".join(dict.fromkeys(run.labels.method for run in runs))
        lacking = len(comparison.variants) * len(comparison.seeds) - len(runs)
        counts = (states["done"], states["diverged"], states["failed"], lacking)
        seeds = ", ".join(str(seed) for seed in comparison.seeds)
        texts = (str(len(comparison.variants)), methods, seeds, *(str(number) for number in counts))
        rows.append(Row(Head(comparison.label), tuple(Cell(text) for text in texts)))
    caption = "Runs by data set. A row is a method with its settings; each row has one run per seed."
    columns = tuple(Column(Head(head), "left" if head in ("Methods", "Seeds") else "right") for head in heads)
    return Table("overview", "", caption, "Data", (), columns, tuple(rows))


def unfinished_table(records: Sequence[Record]) -> Table | None:
    rows = []
    for record in records:
        if record.status != "done":
            settings = show_settings(record.overrides)
            name = record.labels.method + (f" ({settings})" if settings else "")
            texts = (name, str(record.seed), record.status, record.reason or "no reason recorded")
            head = Head(record.labels.data, (), {"data": record.data, "variant": record.variant})
            rows.append(Row(head, tuple(Cell(text) for text in texts)))
    columns = tuple(Column(Head(head), "left") for head in ("Method", "Seed", "Status", "Reason"))
    caption = "Runs that did not finish."
    return Table("unfinished", "", caption, "Data", (), columns, tuple(rows)) if rows else None


def environments_table(records: Sequence[Record]) -> Table | None:
    """Every distinct environment, with the number of its runs."""
    seen = Counter(tuple(str(record.environment.get(key, "--")) for key in ENVIRONMENT) for record in records)
    known = [place for place in range(len(ENVIRONMENT)) if any(values[place] != "--" for values in seen)]
    if not known:
        return None
    names = list(ENVIRONMENT.values())
    columns = tuple(Column(Head(names[place]), "left") for place in known)
    rows = tuple(
        Row(Head(str(number)), tuple(Cell(values[place]) for place in known))
        for values, number in sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    )
    return Table("environments", "", "Where runs were trained.", "Runs", (), columns, rows)
