"""What timings of steps come to. Everything relative is taken within a round, and then the median over rounds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records.speed import FLOOR, OURS, Cell, Passes, Series, ShapeRecord, SpeedRecord
from bench.records.store import RecordError

# Key of the method that the others are compared with, and what it is called.
EQUAL, EQUAL_LABEL = "ew", "EW"

CSV_COLUMNS = (
    "machine", "shape", "series", "tasks", "parameters", "method", "contestant", "passes", "median_ms", "q1_ms",
    "q3_ms", "over_ours_median", "over_ours_q1", "over_ours_q3", "over_floor_median", "over_floor_q1", "over_floor_q3",
    "over_ew_median", "over_ew_q1", "over_ew_q3", "peak_mib", "fault",
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
    """A method on a shape.

    cells: by contestant. floor: of the bare passes of the plain way. equal: EW on the shape, by contestant.
    """

    shape: ShapeRecord
    method: str
    label: str
    passes: Passes
    cells: Mapping[str, Cell]
    floor: Cell | None
    equal: Mapping[str, Cell]

    def milliseconds(self, contestant: str) -> Spread | None:
        """Of a step."""
        return spread([1e3 * value for value in _seconds(self.cells.get(contestant))])

    def over_ours(self, contestant: str) -> Spread | None:
        """Its time over ours: above 1 where ours is faster."""
        return spread(_quotients(self.cells.get(contestant), self.cells.get(OURS)))

    def over_floor(self, contestant: str) -> Spread | None:
        """Its time over that of the bare passes of the plain way; it may be below 1."""
        return spread(_quotients(self.cells.get(contestant), self.floor))

    def over_equal(self, contestant: str) -> Spread | None:
        """Its time over that of EW as the same contestant does it."""
        return spread(_quotients(self.cells.get(contestant), self.equal.get(contestant)))

    def peak_mib(self, contestant: str) -> float | None:
        """What two steps take beyond network and batch."""
        cell = self.cells.get(contestant)
        return cell.peak_mib if cell else None

    def fault(self, contestant: str) -> str:
        """What the contestant raised, in one line; empty where it didn't."""
        cell = self.cells.get(contestant)
        return cell.fault if cell else ""


def _seconds(cell: Cell | None) -> Sequence[float]:
    return cell.seconds if cell else ()


def _quotients(above: Cell | None, below: Cell | None) -> list[float]:
    """One for each round; none where either was not timed.

    Raises:
        RecordError: the two have different numbers of rounds, so that it can't be told which belong together.
    """
    first, second = _seconds(above), _seconds(below)
    if above is None or below is None or not first or not second:
        return []
    if len(first) != len(second):
        found = ", ".join(f"{len(cell.seconds)} for {cell.contestant} {cell.label}".rstrip() for cell in (above, below))
        raise RecordError(f"Steps of shape {above.shape!r}: expected as many rounds for all, found {found}.")
    return [one / other for one, other in zip(first, second, strict=True)]


def peers(record: SpeedRecord) -> tuple[str, ...]:
    """Names of the other packages, as they are recorded."""
    return tuple(dict.fromkeys(cell.contestant for cell in record.cells if cell.contestant not in (OURS, FLOOR)))


def shapes_of(record: SpeedRecord, series: Series = "") -> tuple[ShapeRecord, ...]:
    """The shapes that are varied in something, or those that stand for themselves."""
    return tuple(shape for shape in record.shapes if shape.series == series)


def floors(record: SpeedRecord, shape: ShapeRecord) -> dict[Passes, Cell]:
    """The floor for each kind of passes that a shape has one for."""
    return {cell.passes: cell for cell in record.cells if (cell.shape, cell.contestant) == (shape.key, FLOOR)}


def entries(record: SpeedRecord, shape: ShapeRecord) -> tuple[Entry, ...]:
    """The methods on a shape, in the record's order."""
    by_method: dict[str, dict[str, Cell]] = {}
    for cell in record.cells:
        if cell.shape == shape.key and cell.contestant != FLOOR:
            by_method.setdefault(cell.method, {})[cell.contestant] = cell
    found = floors(record, shape)
    equal = by_method.get(EQUAL, {})
    made = []
    for method, cells in by_method.items():
        first = cells.get(OURS) or next(iter(cells.values()))
        made.append(Entry(shape, method, first.label, first.passes, cells, found.get(first.passes), equal))
    return tuple(made)


@dataclass(frozen=True)
class Gradient:
    """What the gradient methods of a shape come to, those that need a backward pass for each task.

    above_floor: ours over the floor − 1, and over_equal: ours over our EW, by the method's label.
    """

    above_floor: Mapping[str, float]
    over_equal: Mapping[str, float]


@dataclass(frozen=True)
class Beside:
    """The same methods beside a peer's.

    equal: the peer's EW over ours. ratios: the peer's time over ours, and more_memory: MiB that ours takes beyond the
    peer's, by the method's label, where both were measured.
    """

    equal: float | None
    ratios: Mapping[str, float]
    more_memory: Mapping[str, float]


def gradient_methods(chosen: Sequence[Entry]) -> list[Entry]:
    """Those that need a backward pass for each task."""
    return [entry for entry in chosen if entry.passes == "per task"]


def gradient(chosen: Sequence[Entry]) -> Gradient:
    """What the gradient methods among the entries of a shape come to."""
    methods = gradient_methods(chosen)
    above = {entry.label: over.median - 1 for entry in methods if (over := entry.over_floor(OURS))}
    return Gradient(above, {entry.label: over.median for entry in methods if (over := entry.over_equal(OURS))})


def beside(chosen: Sequence[Entry], peer: str) -> Beside:
    """The gradient methods among the entries of a shape, and EW, beside a peer's."""
    methods = gradient_methods(chosen)
    equal = next((over.median for entry in chosen if entry.method == EQUAL and (over := entry.over_ours(peer))), None)
    more = {}
    for entry in methods:
        own, theirs = entry.peak_mib(OURS), entry.peak_mib(peer)
        if own is not None and theirs is not None:
            more[entry.label] = own - theirs
    return Beside(equal, {entry.label: over.median for entry in methods if (over := entry.over_ours(peer))}, more)


def speed_csv(record: SpeedRecord) -> str:
    """A line for each cell, at full precision: ms, MiB, and its time over that of ours, of the floor and of EW."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for shape in record.shapes:
        found = {entry.method: entry for entry in entries(record, shape)}
        for cell in record.cells:
            if cell.shape == shape.key:
                writer.writerow(_line(record.machine, found.get(cell.method) or _alone(shape, cell), cell))
    return text.getvalue()


def _alone(shape: ShapeRecord, floor: Cell) -> Entry:
    """A floor, which is of no method and is compared with nothing."""
    return Entry(shape, "", "", floor.passes, {FLOOR: floor}, None, {})


def _line(machine: str, entry: Entry, cell: Cell) -> list[object]:
    shape, who = entry.shape, cell.contestant
    spreads = (entry.milliseconds(who), entry.over_ours(who), entry.over_floor(who), entry.over_equal(who))
    numbers = [value for one in spreads for value in ((one.median, one.low, one.high) if one else ("", "", ""))]
    identity = [machine, shape.key, shape.series, shape.tasks, shape.parameters, cell.method, who, cell.passes]
    return [*identity, *numbers, "" if cell.peak_mib is None else cell.peak_mib, cell.fault]
