"""The table and the file of checks of the paper's own numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import groupby

from bench.reporting.escaping import csv_cells
from bench.reporting.paper.checks import STATED_IMAGES, Check, all_checks, label_of, repeated_numbers
from bench.reporting.paper.layout import TABLES
from bench.reporting.paper.printed import SOURCE
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

NAME = "checks"
CSV_COLUMNS = ("check", "row", "column", "printed", "found", "difference", "allowed", "holds")


def checks_table() -> Table:
    """A row for each kind of check: how many numbers, the largest difference, and those that rounding can't explain."""
    notes = {place: found for table in TABLES for place, found in repeated_numbers(table).items()}
    rows = [_row(tuple(same), notes) for _, same in groupby(all_checks(), key=lambda check: check.group)]
    heads = (("Numbers", "right"), ("Largest difference", "right"), ("By rounding", "right"), ("Exceptions", "left"))
    columns = tuple(Column(Head(text), "left" if align == "left" else "right") for text, align in heads)
    caption = (
        f"The numbers printed in {SOURCE}, recomputed: averages and Δ_b from the columns printed beside them, numbers "
        "of images from the data sets. By rounding: the largest difference that rounding explains."
    )
    return Table(NAME, f"tab:paper-{NAME}", caption, "Printed", (), columns, tuple(rows))


def checks_csv() -> str:
    """One line per checked number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for check in all_checks():
        numbers = (check.printed, check.found, check.difference, check.allowed)
        writer.writerow(csv_cells([check.group, check.row, check.column, *numbers, str(check.holds)]))
    return text.getvalue()


def _row(checks: tuple[Check, ...], notes: Mapping[tuple[str, str], tuple[str, ...]]) -> Row:
    largest = max(abs(check.difference) for check in checks)
    whole = all(check.printed.is_integer() for check in checks)
    shown = (f"{largest:,.0f}", "0") if whole else (f"{largest:.3f}", f"{checks[0].allowed:.3f}")
    exceptions = "; ".join(_exception(check) for check in checks if not check.holds)
    own = tuple(note for check in checks for note in notes.get((check.row, check.column), ()))
    cells = (Cell(str(len(checks))), *map(Cell, shown), Cell(exceptions or "none"))
    return Row(Head(checks[0].group, own), cells)


def _exception(check: Check) -> str:
    if check.row in STATED_IMAGES:
        return f"printed {check.printed:,.0f}, found {check.found:,.0f}"
    return f"{label_of(check.row)}: printed {check.printed:.2f}, recomputed {check.found:.2f}"
