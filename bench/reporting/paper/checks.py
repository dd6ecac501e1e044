"""Whether the paper's numbers agree with each other: its averages and Δ_b, recomputed from what it printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from bench.records.record import Scores, TaskRecord
from bench.reporting.paper.layout import AVERAGE, GAIN, LABELS, TABLE1, TABLE4, TABLES, PaperColumn, PaperTable
from bench.reporting.paper.printed import printed_rows
from bench.reporting.statistics import delta, mean

# An average of numbers rounded by up to 0.005, itself rounded likewise.
AVERAGE_ROUNDING = 0.01
# Points of Δ_b, from metrics with four decimals or two.
GAIN_ROUNDING = 0.015
_FLOAT_ROUNDING = 1e-9
BASELINE_ROW, SHARED_ROW = "EW", "NORMAL"
# What Sections 5.1 to 5.3 say of the number of images, and the numbers of images of the sources or parts of each data
# set: the lists of LibMTL for Office, the official parts of the others.
STATED_IMAGES: Mapping[str, int] = {"office31": 4_652, "officehome": 15_500, "nyuv2": 1_449, "celeba": 202_599}
IMAGES: Mapping[str, tuple[int, ...]] = {
    "office31": (2_817, 498, 795),
    "officehome": (2_427, 4_365, 4_439, 4_357),
    "nyuv2": (795, 654),
    "celeba": (162_770, 19_867, 19_962),
}


@dataclass(frozen=True)
class Check:
    """A printed number, and what it should be.

    group: what is checked, with the checks of the other rows.
    row: its name in the file of the table, or the data set.
    column: likewise; empty for a number from the text.
    allowed: the largest difference that rounding explains.
    """

    group: str
    row: str
    column: str
    printed: float
    found: float
    allowed: float

    @property
    def difference(self) -> float:
        return self.printed - self.found

    @property
    def holds(self) -> bool:
        """Whether rounding explains the difference."""
        return abs(self.difference) <= self.allowed + _FLOAT_ROUNDING


def all_checks() -> tuple[Check, ...]:
    """Every derived number of the tables, the row that two tables have, and the numbers of images."""
    of_tables = [check for table in TABLES for check in table_checks(table)]
    return (*of_tables, *_repeated_row(), *image_checks())


def table_checks(table: PaperTable) -> tuple[Check, ...]:
    """Averages, from the columns of their data set, and Δ_b, from all metrics; in the order of the columns."""
    rows = printed_rows(table)
    return tuple(
        Check(f"Table {table.number}: {column.printed_name}", row, column.csv, float(cells[column.csv]), *recomputed)
        for column in table.columns
        for row, cells in rows.items()
        if (recomputed := _recomputed(table, column, cells, rows)) is not None
    )


def printed_notes(table: PaperTable) -> dict[tuple[str, str], tuple[str, ...]]:
    """Notes on printed averages and Δ_b, by row and column of the file: what doesn't follow, what is there twice."""
    notes: dict[tuple[str, str], tuple[str, ...]] = repeated_numbers(table)
    for check in (check for check in table_checks(table) if not check.holds):
        place = check.row, check.column
        notes[place] = (*notes.get(place, ()), f"printed; the paper's own columns give {check.found:.2f}")
    return notes


def repeated_numbers(table: PaperTable) -> dict[tuple[str, str], tuple[str, ...]]:
    """Notes on averages of rows that have all numbers of a data set in common, by row and column of the file."""
    notes: dict[tuple[str, str], tuple[str, ...]] = {}
    for data, first, second in equal_rows(table):
        average = next(column.csv for column in table.columns if column.data == data and column.task == AVERAGE)
        note = f"printed; all numbers of {label_of(second)} on {LABELS[data]} are those of {label_of(first)}"
        notes[second, average] = (*notes.get((second, average), ()), note)
    return notes


def label_of(row: str) -> str:
    """The label of a row of any table, by its name in the file."""
    return next((table.rows[row] for table in TABLES if row in table.rows), row)


def _recomputed(
    table: PaperTable, column: PaperColumn, cells: Mapping[str, str], rows: Mapping[str, Mapping[str, str]]
) -> tuple[float, float] | None:
    """What a cell should be, and the rounding allowed; None if it follows from no other cells."""
    if column.task == GAIN:
        scores, baseline = _scores(table, cells), _scores(table, rows[BASELINE_ROW])
        return 100 * delta(scores, baseline, _tasks(table)), GAIN_ROUNDING
    parts = [c for c in table.columns if c.data == column.data and c.task != AVERAGE]
    if column.task == AVERAGE and parts:
        return mean([float(cells[part.csv]) for part in parts]), AVERAGE_ROUNDING
    return None


def _scores(table: PaperTable, cells: Mapping[str, str]) -> Scores:
    scores: Scores = {}
    for column in (column for column in table.columns if column.task != GAIN):
        scores.setdefault(column.task, {})[column.metric.key] = float(cells[column.csv])
    return scores


def _tasks(table: PaperTable) -> list[TaskRecord]:
    """The tasks of a table with several metrics each."""
    columns = [column for column in table.columns if column.task != GAIN]
    return [
        TaskRecord(key=task, label=task, metrics=[column.metric for column in columns if column.task == task])
        for task in dict.fromkeys(column.task for column in columns)
    ]


def _repeated_row() -> list[Check]:
    """NORMAL's row, which Tables 1 and 4 both have."""
    first, second = printed_rows(TABLE1)[SHARED_ROW], printed_rows(TABLE4)[SHARED_ROW]
    group = f"Table 4: {SHARED_ROW} as in Table 1"
    return [Check(group, SHARED_ROW, name, float(second[name]), float(first[name]), 0.0) for name in second]


def image_checks() -> list[Check]:
    """The numbers of images that the text states; the row of a check is the data set."""
    return [
        Check(f"Text: images of {LABELS[data]}", data, "", float(stated), float(sum(IMAGES[data])), 0.0)
        for data, stated in STATED_IMAGES.items()
    ]


def equal_rows(table: PaperTable) -> tuple[tuple[str, str, str], ...]:
    """Pairs of rows that have all numbers of a data set in common: (data set, row, row)."""
    rows = printed_rows(table)
    found = []
    for data in table.data:
        own = [column.csv for column in table.columns if column.data == data]
        if len(own) > 1:
            same = [pair for pair in combinations(rows, 2) if all(rows[pair[0]][c] == rows[pair[1]][c] for c in own)]
            found += [(data, *pair) for pair in same]
    return tuple(found)
