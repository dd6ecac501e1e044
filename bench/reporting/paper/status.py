"""What the paper's tables have here, and which command makes what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.record import Record
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.paper.layout import LABELS
from bench.reporting.paper.rows import FilledTable
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

HEADS = ("Rows of the paper", "Other rows", "Seeds", "Images", "To complete")


@dataclass(frozen=True)
class Asked:
    """What a table's rows are made by. study: its name or file. seeds: those it asks for; () if that isn't known."""

    study: str
    seeds: tuple[int, ...] = ()


def status_table(filled: Sequence[FilledTable], studies: Mapping[str, Asked], usual: Asked) -> Table:
    """A row for each data set of each table.

    studies: that of a table, by its name; the others have the usual one.
    """
    rows = [
        Row(Head(_title(table)), (Cell(LABELS[data]), *map(Cell, _cells(table, data, asked))))
        for table in filled
        for asked in [studies.get(table.layout.name, usual)]
        for data in table.layout.data
    ]
    columns = tuple(Column(Head(head), "left") for head in ("Data", *HEADS))
    caption = (
        "What the records have of each table. Seeds: those of the paper's rows, of those that the study asks for. "
        "Images: all parts of the data that the runs saw."
    )
    return Table("status", "", caption, "Table", (), columns, tuple(rows))


def _title(table: FilledTable) -> str:
    return f"Table {table.layout.number}{f', {table.protocol} protocol' if table.protocol else ''}"


def _cells(table: FilledTable, data: str, asked: Asked) -> list[str]:
    wanted = [row for row in table.rows if row.printed]
    found = [row.variants[data] for row in wanted if data in row.variants]
    others = [row for row in table.rows if not row.printed and data in row.variants]
    comparison = table.comparisons.get(data)
    return [
        f"{len(found)} of {len(wanted)}",
        str(len(others)),
        _seeds(comparison, asked) if comparison else "--",
        images(comparison) if comparison else "--",
        _to_complete(found, len(wanted), data, asked),
    ]


def _seeds(comparison: Comparison, asked: Asked) -> str:
    """The seeds of the rows; if they lack some of the study, with those of the study."""
    known, wanted = (", ".join(map(str, seeds)) for seeds in (comparison.seeds, asked.seeds))
    return known if set(asked.seeds) <= set(comparison.seeds) else f"{known} (of {wanted})"


def _to_complete(found: Sequence[Variant], wanted: int, data: str, asked: Asked) -> str:
    """The command that trains what is missing. A run that diverged has ended, and is not trained again."""
    seeds = asked.seeds or sorted({seed for variant in found for seed in variant.runs})
    ended = [_has_ended(variant, seed) for variant in found for seed in seeds]
    if len(found) < wanted or not all(ended):
        return f"python -m bench.run --study {asked.study} --data {data}"
    lost = sum(seed not in variant.scored for variant in found for seed in seeds)
    return f"nothing; {lost} run{'s' * (lost != 1)} diverged" if lost else "nothing"


def _has_ended(variant: Variant, seed: int) -> bool:
    run = variant.runs.get(seed)
    return seed in variant.scored or (run is not None and run.status == "diverged")


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
