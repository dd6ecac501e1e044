"""Timings of steps in tables: a row per method of a shape, a summary of all shapes, a row per size of a series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.records.speed import OURS, Cell, Passes, Series, ShapeRecord, SpeedRecord
from bench.reporting.speed.numbers import (
    EQUAL_LABEL,
    Beside,
    Entry,
    beside,
    entries,
    floors,
    gradient,
    peers,
    shapes_of,
    spread,
)
from bench.reporting.speed.text import (
    images,
    just_median,
    mib,
    parameters,
    percent,
    size,
    size_text,
    three_digits,
    title,
    with_quartiles,
)
from bench.reporting.tables.table import Cell as TableCell
from bench.reporting.tables.table import Column, Group, Head, Row, Table

FLOOR_LABELS: Mapping[Passes, str] = {"one": "Floor, one backward pass", "per task": "Floor, a pass per task"}
# What the shapes of a series differ in.
SERIES: Mapping[Series, str] = {"tasks": "number of tasks", "parameters": "number of shared parameters"}
EMPTY = TableCell("")
HOW = (
    "ms: of a training step, median over rounds (first–third quartile). × EW: over EW of ours. Above floor: over the "
    "bare passes of the plain way, a forward and one backward, or a backward for each task; what gets its inner "
    "products of gradients for less is below it. × ours: over ours, above 1 where ours is faster. All ratios are taken "
    "within a round, then the median. Peak MiB: what two steps take beyond network and batch"
)
SUMMARY_HOW = (
    "Methods that need a backward pass for each task, and EW. Above floor and × EW: ours, the most of any method. × "
    "ours: the peer's time over ours, above 1 where ours is faster; least, median and most of the methods that "
    "both have. Less memory: how many of them take less memory in the peer than in ours"
)


def speed_tables(record: SpeedRecord) -> tuple[Table, ...]:
    """All tables of a measurement; the summary is the first where there is one."""
    summary = summary_table(record)
    steps = tuple(step_table(record, shape) for shape in shapes_of(record))
    return (*((summary,) if summary else ()), *steps, *scaling_tables(record))


def step_table(record: SpeedRecord, shape: ShapeRecord) -> Table:
    """A row per method, and one per floor."""
    rows = [_row(entry, entry.label, peers(record)) for entry in entries(record, shape)]
    caption = f"{title(shape)}: {images(shape)}, {parameters(shape.parameters)} shared parameters. {HOW}."
    return _table(record, f"step-{shape.key}", caption, "Method", [*rows, *_floor_rows(record, [shape])])


def scaling_tables(record: SpeedRecord) -> tuple[Table, ...]:
    """Of each series there is: per method a row for each size."""
    made = []
    for series, what in SERIES.items():
        shapes = sorted(shapes_of(record, series), key=size)
        found = [entry for shape in shapes for entry in entries(record, shape)]
        rows: list[Row] = []
        for method in dict.fromkeys(entry.method for entry in found):
            own = [entry for entry in found if entry.method == method]
            rows += [
                _row(entry, f"{entry.label}, {size_text(entry.shape)}", peers(record), rule=bool(rows) and place == 0)
                for place, entry in enumerate(own)
            ]
        if shapes:
            caption = f"By {what}. {HOW}."
            rows += _floor_rows(record, shapes)
            made.append(_table(record, f"scaling-{series}", caption, "Method", rows))
    return tuple(made)


def summary_table(record: SpeedRecord) -> Table | None:
    """A row per shape; None where all shapes are of a series."""
    others, shapes = peers(record), shapes_of(record)
    rows = []
    for shape in shapes:
        found = entries(record, shape)
        own = gradient(found)
        cells = [_most(own.above_floor, percent), _most(own.over_equal, three_digits)]
        cells += [cell for peer in others for cell in _beside_cells(beside(found, peer), peer)]
        rows.append(Row(Head(title(shape), identity={"shape": shape.key}), tuple(cells)))
    heads = ("above floor, %", "× EW", *(["× ours: EW", "least", "median", "most", "less memory"] * len(others)))
    groups = (Group("ours", 2), *(Group(peer, 5) for peer in others))
    columns = tuple(Column(Head(head)) for head in heads)
    caption = f"Training steps on {record.machine}. {SUMMARY_HOW}."
    return Table("summary", _label(record, "summary"), caption, "Shape", groups, columns, tuple(rows)) if rows else None


def _label(record: SpeedRecord, name: str) -> str:
    return f"tab:speed-{record.machine}-{name}"


def _table(record: SpeedRecord, name: str, caption: str, stub: str, rows: Sequence[Row]) -> Table:
    others = peers(record)
    heads = ["ms", f"× {EQUAL_LABEL}", "above floor, %"]
    heads += ["ms", "× ours"] * len(others) + ["ours", *others]
    groups = (Group("ours", 3), *(Group(peer, 2) for peer in others), Group("peak MiB", 1 + len(others)))
    columns = tuple(Column(Head(head)) for head in heads)
    return Table(name, _label(record, name), caption, stub, groups, columns, tuple(rows))


def _row(entry: Entry, name: str, others: Sequence[str], rule: bool = False) -> Row:
    over_floor = entry.over_floor(OURS)
    cells = [
        TableCell(with_quartiles(entry.milliseconds(OURS)), notes=_notes(entry, OURS)),
        TableCell(just_median(entry.over_equal(OURS))),
        TableCell(percent(over_floor.median - 1 if over_floor else None)),
    ]
    for peer in others:
        cells.append(TableCell(just_median(entry.milliseconds(peer)), notes=_notes(entry, peer)))
        cells.append(TableCell(just_median(entry.over_ours(peer))))
    cells += [TableCell(mib(entry.peak_mib(who))) for who in (OURS, *others)]
    return Row(Head(name, identity={"method": entry.method}), tuple(cells), rule)


def _notes(entry: Entry, contestant: str) -> tuple[str, ...]:
    fault = entry.fault(contestant).rstrip(".")
    return (f"{contestant}: {fault}",) if fault else ()


def _floor_rows(record: SpeedRecord, shapes: Sequence[ShapeRecord]) -> list[Row]:
    """The time of each floor for each shape, which has nothing else to show."""
    found = [(passes, shape, floors(record, shape).get(passes)) for passes in FLOOR_LABELS for shape in shapes]
    blank = (EMPTY,) * (3 + 3 * len(peers(record)))
    rows: list[Row] = []
    for passes, shape, floor in found:
        if floor is not None:
            name = FLOOR_LABELS[passes] + (f", {size_text(shape)}" if shape.series else "")
            rows.append(Row(Head(name), (_floor_cell(floor), *blank), rule=not rows))
    return rows


def _floor_cell(floor: Cell) -> TableCell:
    notes = (f"{floor.contestant}: {floor.fault.rstrip('.')}",) if floor.fault else ()
    return TableCell(with_quartiles(spread([1e3 * value for value in floor.seconds])), notes=notes)


def _beside_cells(compared: Beside, peer: str) -> list[TableCell]:
    ratios = compared.ratios
    middle = f"{three_digits(median(ratios.values()))} of {len(ratios)}" if ratios else TableCell().text
    least = _most({label: -value for label, value in ratios.items()}, lambda value: three_digits(-value))
    equal = TableCell() if compared.equal is None else TableCell(three_digits(compared.equal))
    return [equal, least, TableCell(middle), _most(ratios, three_digits), _memory_cell(compared.more_memory, peer)]


def _memory_cell(more: Mapping[str, float], peer: str) -> TableCell:
    if not more:
        return TableCell()
    above = ", ".join(f"{label} by {mib(value)} MiB" for label, value in more.items() if value > 0)
    count = sum(value > 0 for value in more.values())
    return TableCell(f"{count} of {len(more)}", notes=(f"ours takes more than {peer}: {above}",) if above else ())


def _most(values: Mapping[str, float], text: Callable[[float], str]) -> TableCell:
    """The largest, and whose it is."""
    if not values:
        return TableCell()
    label = max(values, key=lambda key: values[key])
    return TableCell(f"{text(values[label])} ({label})")
