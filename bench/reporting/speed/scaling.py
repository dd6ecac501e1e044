"""How a step's time and memory grow with the number of tasks and of shared parameters, in a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bench.records.speed import Passes, Series, SpeedRecord, WorkloadRecord
from bench.reporting.figures.lines import marked
from bench.reporting.figures.style import GREY, GRID, WIDTH, paper_style
from bench.reporting.speed.figure import BASELINE_COLOUR, BASELINE_DASHES, baseline_handles, line_styles
from bench.reporting.speed.numbers import Entry, Spread, baselines, entries, spread, workloads_of
from bench.reporting.speed.text import parameters, size

LABELS: Mapping[Series, str] = {"tasks": "Number of tasks", "parameters": "Number of shared parameters"}
MEASURES = ("Step (ms)", "Peak memory (MiB)")
# An axis whose largest number is so many times its smallest is logarithmic.
LOG_FROM = 8
# Width of a letter below an axis, as a share of the axis.
LETTER = 0.02
# Points on a line: where, and what was measured there.
Points = Sequence[tuple[int, Spread]]


def scaling_figure(record: SpeedRecord) -> Figure | None:
    """Time above memory, a column per series, a line per candidate and method; None without series."""
    columns = {series: sorted(some, key=size) for series in LABELS if (some := workloads_of(record, series))}
    workloads = [workload for found in columns.values() for workload in found]
    if not workloads:
        return None
    measured = [entry for workload in workloads for entry in entries(record, workload)]
    labels = {entry.method: entry.label for entry in measured}
    remembered = any(cell.peak_mib is not None for entry in measured for cell in entry.cells.values())
    rows = len(MEASURES) if remembered else 1
    with paper_style():
        figure = Figure(figsize=(WIDTH * len(columns), 0.75 + 1.6 * rows))
        grid = figure.subplots(rows, len(columns), squeeze=False, sharex="col")
        for place, (series, found) in enumerate(columns.items()):
            _draw_times(grid[0, place], record, found, list(labels))
            if remembered:
                _draw_memory(grid[1, place], record, found, list(labels))
            grid[-1, place].set_xlabel(LABELS[series])
            _name_sizes(grid[-1, place], found)
        figure.align_xlabels(grid[-1])
        for row, measure in enumerate(MEASURES[:rows]):
            grid[row, 0].set_ylabel(measure)
        candidates = [Line2D([], [], **look, label=who) for who, look in line_styles(record).items()]
        methods = [_method_handle(label, marked(place)) for place, label in enumerate(labels.values())]
        handles = _side_by_side([candidates, methods, baseline_handles(record, workloads)])
        figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.6, columnspacing=1.4)
    return figure


def _method_handle(label: str, marker: str) -> Line2D:
    return Line2D([], [], color=GREY, marker=marker, markersize=3.5, linewidth=0, label=label)


def _side_by_side(columns: Sequence[Sequence[Line2D]]) -> list[Line2D]:
    """The columns of a legend, which are filled one after another, padded to the length of the longest."""
    longest = max(len(column) for column in columns)
    blank = Line2D([], [], linewidth=0, label=" ")
    return [handle for column in columns for handle in (*column, *[blank] * (longest - len(column)))]


def _draw_times(axes: Axes, record: SpeedRecord, workloads: Sequence[WorkloadRecord], methods: Sequence[str]) -> None:
    _draw_lines(axes, record, workloads, methods, Entry.milliseconds)
    for passes, dashes in BASELINE_DASHES.items():
        points = [(size(workload), times) for workload in workloads if (times := _baseline(record, workload, passes))]
        _draw_line(axes, points, color=BASELINE_COLOUR, linewidth=0.9, linestyle=dashes, zorder=3)
    _scale(axes)


def _baseline(record: SpeedRecord, workload: WorkloadRecord, passes: Passes) -> Spread | None:
    cell = baselines(record, workload).get(passes)
    return spread([1e3 * value for value in cell.seconds]) if cell else None


def _draw_memory(axes: Axes, record: SpeedRecord, workloads: Sequence[WorkloadRecord], methods: Sequence[str]) -> None:
    def peak(entry: Entry, candidate: str) -> Spread | None:
        amount = entry.peak_mib(candidate)
        return None if amount is None else spread([amount])

    _draw_lines(axes, record, workloads, methods, peak)
    _scale(axes)


def _draw_lines(
    axes: Axes,
    record: SpeedRecord,
    workloads: Sequence[WorkloadRecord],
    methods: Sequence[str],
    measure: Callable[[Entry, str], Spread | None],
) -> None:
    """measure(entry, candidate) -> the value to draw."""
    found = [entry for workload in workloads for entry in entries(record, workload)]
    for place, method in enumerate(methods):
        for candidate, look in line_styles(record).items():
            points = [
                (size(entry.workload), numbers)
                for entry in found
                if entry.method == method and (numbers := measure(entry, candidate))
            ]
            _draw_line(axes, points, **look, marker=marked(place), markersize=3.2, markeredgewidth=0)


def _draw_line(axes: Axes, points: Points, **look: Any) -> None:
    if not points:
        return
    sizes = [at for at, _ in points]
    axes.plot(sizes, [numbers.median for _, numbers in points], **look)
    if any(numbers.rounds > 1 for _, numbers in points):
        low, high = [numbers.low for _, numbers in points], [numbers.high for _, numbers in points]
        axes.fill_between(sizes, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _scale(axes: Axes) -> None:
    """Logarithmic if the numbers differ by much and none is 0, otherwise linear from 0."""
    values = [float(value) for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=np.float64)]
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    if _logarithmic(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=_steps(values)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min(0.0, *values) if values else 0.0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _logarithmic(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) >= LOG_FROM * min(values)


def _steps(values: Sequence[float]) -> tuple[float, ...]:
    """Ticks within a power of ten: fewer if there are many powers."""
    return (1, 2, 5) if max(values) < 100 * min(values) else (1, 3) if max(values) < 1000 * min(values) else (1,)


def _name_sizes(axes: Axes, workloads: Sequence[WorkloadRecord]) -> None:
    sizes = sorted({size(workload) for workload in workloads})
    if _logarithmic(sizes):
        axes.set_xscale("log")
    names = [parameters(at) if workloads[0].series == "parameters" else str(at) for at in sizes]
    axes.set_xticks(sizes, _spaced(names, _across(sizes)), linespacing=0.9)
    axes.xaxis.set_minor_locator(NullLocator())


def _across(sizes: Sequence[int]) -> list[float]:
    """Their places on the axis, from 0 to 1."""
    at = np.log(sizes) if _logarithmic(sizes) else np.array(sizes, dtype=np.float64)
    return [float(place) for place in (at - at[0]) / ((at[-1] - at[0]) or 1.0)]


def _spaced(names: Sequence[str], places: Sequence[float]) -> list[str]:
    """Names of ticks at places from 0 to 1, each on the first line below the axis where it overlaps no other."""
    ends: list[float] = []  # of the last name on each line
    shown = []
    for name, place in zip(names, places, strict=True):
        half = LETTER * (len(name) + 1) / 2  # with room for a letter between two names
        line = next((line for line, end in enumerate(ends) if end <= place - half), len(ends))
        ends[line : line + 1] = [place + half]
        shown.append("\n" * line + name)
    return shown
