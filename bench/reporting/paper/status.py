"""What the paper's tables have here, and which command makes what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.records.record import Record
from bench.reporting.comparison import Comparison
from bench.reporting.paper.layout import LABELS
from bench.reporting.paper.rows import FilledTable
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

HEADS = ("Rows of the paper", "Other rows", "Seeds", "Images", "To complete")


def status_table(filled: Sequence[FilledTable], studies: Mapping[str, str], usual: str) -> Table:
    """A row for each data set of each table.

    studies: that of a table, by its name; the others have the usual one.
    """
    rows = [
        Row(Head(_title(table)), (Cell(LABELS[data]), *map(Cell, _cells(table, data, study))))
        for table in filled
        for study in [studies.get(table.layout.name, usual)]
        for data in table.layout.data
    ]
    columns = tuple(Column(Head(head), "left") for head in ("Data", *HEADS))
    caption = "What the records have of each table. Images: all parts of the data that the runs saw."
    return Table("status", "", caption, "Table", (), columns, tuple(rows))


def _title(table: FilledTable) -> str:
    return f"Table {table.layout.number}{f', {table.protocol} protocol' if table.protocol else ''}"


def _cells(table: FilledTable, data: str, study: str) -> list[str]:
    wanted = [row for row in table.rows if row.printed]
    found = [row for row in wanted if data in row.variants]
    others = [row for row in table.rows if not row.printed and data in row.variants]
    comparison = table.comparisons.get(data)
    seeds = ", ".join(map(str, comparison.seeds)) if comparison else "--"
    done = comparison is not None and all(set(row.variants[data].scored) == set(comparison.seeds) for row in found)
    whole = done and len(found) == len(wanted)
    return [
        f"{len(found)} of {len(wanted)}",
        str(len(others)),
        seeds,
        images(comparison) if comparison else "--",
        "nothing" if whole else f"python -m bench.run --study {study} --data {data}",
    ]


def images(comparison: Comparison) -> str:
    """How many images the runs of a comparison saw; several numbers if they differ."""
    runs = [run for variant in comparison.variants for run in variant.runs.values()]
    found = dict.fromkeys(count for count in map(_image_count, runs) if count is not None)
    return ", ".join(f"{count:,}" for count in found) or "--"


def _image_count(record: Record) -> int | None:
    """The sum over parts and tasks; None if the record doesn't have it."""
    numbers = list(_leaves(record.splits.get("counts")))
    return sum(numbers) if numbers and all(type(number) is int for number in numbers) else None


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in _leaves(branch)]
    return [tree]
