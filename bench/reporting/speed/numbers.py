"""Statistics of timed steps. Ratios are taken within a round, then the median over rounds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records.speed import BASELINE, OURS, Cell, Passes, Series, SpeedRecord, WorkloadRecord
from bench.records.store import RecordError
from bench.reporting.escaping import csv_cells

# Key and label of the method that the others are compared with.
EQUAL, EQUAL_LABEL = "ew", "EW"

CSV_COLUMNS = (
    "machine", "workload", "series", "tasks", "parameters", "method", "candidate", "passes", "median_ms", "q1_ms",
    "q3_ms", "over_ours_median", "over_ours_q1", "over_ours_q3", "over_baseline_median", "over_baseline_q1",
    "over_baseline_q3", "over_ew_median", "over_ew_q1", "over_ew_q3", "peak_mib", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Of one number per round: its median, first and third quartile."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """None without values; a single one is all three."""
    if not values:
        return None
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Spread(median, low, high, len(values))


@dataclass(frozen=True)
class Entry:
    """A method on a workload.

    cells: by candidate.
    baseline: the autograd baseline with the same passes.
    equal: EW on the workload, by candidate.
    """

    workload: WorkloadRecord
    method: str
    label: str
    passes: Passes
    cells: Mapping[str, Cell]
    baseline: Cell | None
    equal: Mapping[str, Cell]

    def milliseconds(self, candidate: str) -> Spread | None:
        """Of a step."""
        return spread([1e3 * value for value in _seconds(self.cells.get(candidate))])

    def over_ours(self, candidate: str) -> Spread | None:
        """Its time over ours: above 1 if ours is faster."""
        return spread(_quotients(self.cells.get(candidate), self.cells.get(OURS)))

    def over_baseline(self, candidate: str) -> Spread | None:
        """Its time over that of the autograd baseline; it may be below 1."""
        return spread(_quotients(self.cells.get(candidate), self.baseline))

    def over_equal(self, candidate: str) -> Spread | None:
        """Its time over that of EW by the same candidate."""
        return spread(_quotients(self.cells.get(candidate), self.equal.get(candidate)))

    def peak_mib(self, candidate: str) -> float | None:
        """Memory of two steps beyond network and batch."""
        cell = self.cells.get(candidate)
        return cell.peak_mib if cell else None

    def error(self, candidate: str) -> str:
        """What the candidate raised, in one line; empty if it didn't."""
        cell = self.cells.get(candidate)
        return cell.error if cell else ""


def _seconds(cell: Cell | None) -> Sequence[float]:
    return cell.seconds if cell else ()


def _quotients(above: Cell | None, below: Cell | None) -> list[float]:
    """One for each round; none if either was not timed.

    Raises:
        RecordError: the two have different numbers of rounds, so that they can't be paired.
    """
    first, second = _seconds(above), _seconds(below)
    if above is None or below is None or not first or not second:
        return []
    if len(first) != len(second):
        found = ", ".join(f"{len(cell.seconds)} for {cell.candidate} {cell.label}".rstrip() for cell in (above, below))
        raise RecordError(f"Steps of workload {above.workload!r}: expected as many rounds for all, found {found}.")
    return [one / other for one, other in zip(first, second, strict=True)]


def peers(record: SpeedRecord) -> tuple[str, ...]:
    """Names of the other packages, as recorded."""
    return tuple(dict.fromkeys(cell.candidate for cell in record.cells if cell.candidate not in (OURS, BASELINE)))


def workloads_of(record: SpeedRecord, series: Series = "") -> tuple[WorkloadRecord, ...]:
    """The workloads of a series, or those of none."""
    return tuple(workload for workload in record.workloads if workload.series == series)


def baselines(record: SpeedRecord, workload: WorkloadRecord) -> dict[Passes, Cell]:
    """The autograd baselines of a workload, by passes."""
    return {cell.passes: cell for cell in record.cells if (cell.workload, cell.candidate) == (workload.key, BASELINE)}


def entries(record: SpeedRecord, workload: WorkloadRecord) -> tuple[Entry, ...]:
    """The methods on a workload, in the record's order."""
    by_method: dict[str, dict[str, Cell]] = {}
    for cell in record.cells:
        if cell.workload == workload.key and cell.candidate != BASELINE:
            by_method.setdefault(cell.method, {})[cell.candidate] = cell
    found = baselines(record, workload)
    equal = by_method.get(EQUAL, {})
    made = []
    for method, cells in by_method.items():
        first = cells.get(OURS) or next(iter(cells.values()))
        made.append(Entry(workload, method, first.label, first.passes, cells, found.get(first.passes), equal))
    return tuple(made)


@dataclass(frozen=True)
class Gradient:
    """The gradient methods of a workload, those that need a backward pass for each task, by label.

    overhead: ours over the baseline − 1.
    over_equal: ours over our EW.
    """

    overhead: Mapping[str, float]
    over_equal: Mapping[str, float]


@dataclass(frozen=True)
class Beside:
    """The same methods in another package and here, by label, if both were measured.

    equal: its EW over ours.
    ratios: its time over ours.
    more_memory: MiB of ours minus its MiB.
    """

    equal: float | None
    ratios: Mapping[str, float]
    more_memory: Mapping[str, float]


def gradient_methods(chosen: Sequence[Entry]) -> list[Entry]:
    """Those that need a backward pass for each task."""
    return [entry for entry in chosen if entry.passes == "per task"]


def gradient(chosen: Sequence[Entry]) -> Gradient:
    """The gradient methods among the entries of a workload."""
    methods = gradient_methods(chosen)
    above = {entry.label: over.median - 1 for entry in methods if (over := entry.over_baseline(OURS))}
    return Gradient(above, {entry.label: over.median for entry in methods if (over := entry.over_equal(OURS))})


def beside(chosen: Sequence[Entry], peer: str) -> Beside:
    """The gradient methods among the entries of a workload, and EW, beside those of another package."""
    methods = gradient_methods(chosen)
    equal = next((over.median for entry in chosen if entry.method == EQUAL and (over := entry.over_ours(peer))), None)
    more = {}
    for entry in methods:
        own, theirs = entry.peak_mib(OURS), entry.peak_mib(peer)
        if own is not None and theirs is not None:
            more[entry.label] = own - theirs
    return Beside(equal, {entry.label: over.median for entry in methods if (over := entry.over_ours(peer))}, more)


def speed_csv(record: SpeedRecord) -> str:
    """A line for each cell, at full precision: ms, MiB, and its time over that of ours, of the baseline and of EW."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for workload in record.workloads:
        found = {entry.method: entry for entry in entries(record, workload)}
        for cell in record.cells:
            if cell.workload == workload.key:
                writer.writerow(_line(record.machine, found.get(cell.method) or _alone(workload, cell), cell))
    return text.getvalue()


def _alone(workload: WorkloadRecord, baseline: Cell) -> Entry:
    """A baseline, which has no method and is compared with nothing."""
    return Entry(workload, "", "", baseline.passes, {BASELINE: baseline}, None, {})


def _line(machine: str, entry: Entry, cell: Cell) -> list[object]:
    workload, who = entry.workload, cell.candidate
    spreads = (entry.milliseconds(who), entry.over_ours(who), entry.over_baseline(who), entry.over_equal(who))
    numbers = [value for one in spreads for value in ((one.median, one.low, one.high) if one else (None,) * 3)]
    name = "autograd baseline" if who == BASELINE else who
    identity = [
        machine,
        workload.key,
        workload.series,
        workload.tasks,
        workload.parameters,
        cell.method,
        name,
        cell.passes,
    ]
    return csv_cells([*identity, *numbers, cell.peak_mib, cell.error])
