"""Tables of timed steps: a row per method of a workload, a summary of all workloads, a row per size of a series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.records.speed import OURS, Cell, Passes, Series, SpeedRecord, WorkloadRecord
from bench.reporting.speed.numbers import (
    EQUAL_LABEL,
    Beside,
    Entry,
    baselines,
    beside,
    entries,
    gradient,
    peers,
    spread,
    workloads_of,
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

BASELINE_LABELS: Mapping[Passes, str] = {
    "one": "Autograd baseline, one backward pass",
    "per task": "Autograd baseline, one per task",
}
# What the workloads of a series differ in.
SERIES: Mapping[Series, str] = {"tasks": "number of tasks", "parameters": "number of shared parameters"}
EMPTY = TableCell("")
HOW = (
    "ms: time of a training step, median over rounds (first–third quartile). × EW: over our EW. Overhead: over the "
    "autograd baseline, the bare passes of a plain implementation: a forward pass, and one backward pass or one per "
    "task. It is negative if the inner products of gradients cost less than the gradients. × ours: over ours, above 1 "
    "if ours is faster. All ratios are taken within a round, then the median. Peak MiB: memory of two steps beyond "
    "network and batch"
)
SUMMARY_HOW = (
    "Methods that need a backward pass for each task, and EW. Overhead over the autograd baseline and × EW: ours, the "
    "largest of any method. × ours: the other package's time over ours, above 1 if ours is faster; smallest, median "
    "and largest of the methods that both have. Less memory: how many of them take less memory in the other package"
)


def speed_tables(record: SpeedRecord) -> tuple[Table, ...]:
    """All tables of a measurement, the summary first if there is one."""
    summary = summary_table(record)
    steps = tuple(step_table(record, workload) for workload in workloads_of(record))
    return (*((summary,) if summary else ()), *steps, *scaling_tables(record))


def step_table(record: SpeedRecord, workload: WorkloadRecord) -> Table:
    """A row per method, and one per baseline."""
    rows = [_row(entry, entry.label, peers(record)) for entry in entries(record, workload)]
    caption = f"{title(workload)}: {images(workload)}, {parameters(workload.parameters)} shared parameters. {HOW}."
    return _table(record, f"step-{workload.key}", caption, "Method", [*rows, *_baseline_rows(record, [workload])])


def scaling_tables(record: SpeedRecord) -> tuple[Table, ...]:
    """A table for each series: per method a row for each size."""
    made = []
    for series, what in SERIES.items():
        workloads = sorted(workloads_of(record, series), key=size)
        found = [entry for workload in workloads for entry in entries(record, workload)]
        rows: list[Row] = []
        for method in dict.fromkeys(entry.method for entry in found):
            own = [entry for entry in found if entry.method == method]
            rows += [
                _row(
                    entry, f"{entry.label}, {size_text(entry.workload)}", peers(record), rule=bool(rows) and place == 0
                )
                for place, entry in enumerate(own)
            ]
        if workloads:
            caption = f"By {what}. {HOW}."
            rows += _baseline_rows(record, workloads)
            made.append(_table(record, f"scaling-{series}", caption, "Method", rows))
    return tuple(made)


def summary_table(record: SpeedRecord) -> Table | None:
    """A row per workload; None if all workloads are of a series."""
    others, workloads = peers(record), workloads_of(record)
    rows = []
    for workload in workloads:
        found = entries(record, workload)
        own = gradient(found)
        cells = [_most(own.overhead, percent), _most(own.over_equal, three_digits)]
        cells += [cell for peer in others for cell in _beside_cells(beside(found, peer), peer)]
        rows.append(Row(Head(title(workload), identity={"workload": workload.key}), tuple(cells)))
    heads = ("overhead, %", "× EW", *(["× ours: EW", "smallest", "median", "largest", "less memory"] * len(others)))
    groups = (Group("ours", 2), *(Group(peer, 5) for peer in others))
    columns = tuple(Column(Head(head)) for head in heads)
    caption = f"Training steps on {record.machine}. {SUMMARY_HOW}."
    return (
        Table("summary", _label(record, "summary"), caption, "Workload", groups, columns, tuple(rows)) if rows else None
    )


def _label(record: SpeedRecord, name: str) -> str:
    return f"tab:speed-{record.machine}-{name}"


def _table(record: SpeedRecord, name: str, caption: str, stub: str, rows: Sequence[Row]) -> Table:
    others = peers(record)
    heads = ["ms", f"× {EQUAL_LABEL}", "overhead, %"]
    heads += ["ms", "× ours"] * len(others) + ["ours", *others]
    groups = (Group("ours", 3), *(Group(peer, 2) for peer in others), Group("peak MiB", 1 + len(others)))
    columns = tuple(Column(Head(head)) for head in heads)
    return Table(name, _label(record, name), caption, stub, groups, columns, tuple(rows))


def _row(entry: Entry, name: str, others: Sequence[str], rule: bool = False) -> Row:
    over_baseline = entry.over_baseline(OURS)
    cells = [
        TableCell(with_quartiles(entry.milliseconds(OURS)), notes=_notes(entry, OURS)),
        TableCell(just_median(entry.over_equal(OURS))),
        TableCell(percent(over_baseline.median - 1 if over_baseline else None)),
    ]
    for peer in others:
        cells.append(TableCell(just_median(entry.milliseconds(peer)), notes=_notes(entry, peer)))
        cells.append(TableCell(just_median(entry.over_ours(peer))))
    cells += [TableCell(mib(entry.peak_mib(who))) for who in (OURS, *others)]
    return Row(Head(name, identity={"method": entry.method}), tuple(cells), rule)


def _notes(entry: Entry, candidate: str) -> tuple[str, ...]:
    error = entry.error(candidate).rstrip(".")
    return (f"{candidate}: {error}",) if error else ()


def _baseline_rows(record: SpeedRecord, workloads: Sequence[WorkloadRecord]) -> list[Row]:
    """The time of each baseline on each workload; their other cells are empty."""
    found = [
        (passes, workload, baselines(record, workload).get(passes))
        for passes in BASELINE_LABELS
        for workload in workloads
    ]
    blank = (EMPTY,) * (3 + 3 * len(peers(record)))
    rows: list[Row] = []
    for passes, workload, baseline in found:
        if baseline is not None:
            name = BASELINE_LABELS[passes] + (f", {size_text(workload)}" if workload.series else "")
            rows.append(Row(Head(name), (_baseline_cell(baseline), *blank), rule=not rows))
    return rows


def _baseline_cell(baseline: Cell) -> TableCell:
    notes = (f"autograd baseline: {baseline.error.rstrip('.')}",) if baseline.error else ()
    return TableCell(with_quartiles(spread([1e3 * value for value in baseline.seconds])), notes=notes)


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
    """The largest value, and its label."""
    if not values:
        return TableCell()
    label = max(values, key=lambda key: values[key])
    return TableCell(f"{text(values[label])} ({label})")
