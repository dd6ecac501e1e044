"""Published numbers beside ours, cell by cell."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

from bench.reporting.escaping import csv_cells
from bench.reporting.options import MEANS
from bench.reporting.paper.cells import our_cells
from bench.reporting.paper.checks import printed_notes
from bench.reporting.paper.layout import PaperColumn
from bench.reporting.paper.printed import printed_rows
from bench.reporting.paper.rows import FilledTable
from bench.reporting.tables.score_rows import show
from bench.reporting.tables.table import Cell

CSV_COLUMNS = (
    "table", "row", "data", "task", "metric", "unit", "direction", "published", "here", "difference", "n", "seeds",
    "notes",
)  # fmt: skip


@dataclass(frozen=True)
class Triple:
    """A cell of the paper, and ours.

    published: digits as printed, with a note if they contradict others.
    difference: here − published, in the printed unit; None without runs.
    """

    column: PaperColumn
    published: Cell
    here: Cell
    difference: float | None

    @property
    def cells(self) -> tuple[Cell, Cell, Cell]:
        """Published, here, difference."""
        if self.difference is None:
            return self.published, self.here, Cell()
        text = show(self.difference / self.column.scale, self.column.unit)
        return self.published, self.here, Cell(f"+{text}" if float(text) > 0 else text)


def triples(filled: FilledTable) -> dict[str, tuple[Triple, ...]]:
    """The cells of each row of the paper, in the order of the columns, by the name of the row."""
    notes = printed_notes(filled.layout)
    printed = printed_rows(filled.layout)
    return {
        row.printed: tuple(
            _triple(column, cell, printed[row.printed][column.csv], notes.get((row.printed, column.csv), ()))
            for column, cell in zip(filled.layout.columns, cells, strict=True)
        )
        for row, cells in zip(filled.rows, our_cells(filled, MEANS), strict=True)
        if row.printed
    }


def _triple(column: PaperColumn, here: Cell, digits: str, notes: tuple[str, ...]) -> Triple:
    plain = replace(here, bold=False)
    difference = None if here.mean is None else column.scale * here.mean - float(digits)
    return Triple(column, Cell(digits, notes=notes), plain, difference)


def differences_csv(filled: FilledTable) -> str:
    """One line per cell of the paper; all numbers in the printed unit, ours at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    rows = {row.printed: row for row in filled.rows}
    for name, cells in triples(filled).items():
        for triple in cells:
            column, here = triple.column, triple.here
            notes = "; ".join((*rows[name].notes, *triple.published.notes, *here.notes))
            seeds = " ".join(str(seed) for seed in here.seeds)
            value = None if here.mean is None else column.scale * here.mean
            metric = column.metric
            what = (filled.name, rows[name].label, column.data, column.task, metric.key, column.unit, metric.direction)
            numbers = (float(triple.published.text), value, triple.difference, len(here.seeds))
            writer.writerow(csv_cells([*what, *numbers, seeds, notes]))
    return text.getvalue()
