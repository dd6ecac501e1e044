"""Timings of steps in figures: bars for every method of a workload beside the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.records.speed import OURS, Passes, SpeedRecord, WorkloadRecord
from bench.reporting.figures.style import COLOURS, DASHES, GREY, GRID, LONGEST_LINE, WIDTH, paper_style
from bench.reporting.speed.numbers import Entry, baselines, entries, peers, spread, workloads_of
from bench.reporting.speed.text import three_digits

# The same in all figures; other packages take the other colours. All three differ in lightness, too.
KNOWN = {OURS: COLOURS[7], "LibMTL": COLOURS[1], "TorchJD": COLOURS[3]}
OTHERS = tuple(colour for colour in COLOURS[1:] if colour not in KNOWN.values())
BASELINE_DASHES: Mapping[Passes, Any] = {"one": (0, (1, 1.2)), "per task": (0, (5, 2))}
BASELINE_NAMES: Mapping[Passes, str] = {
    "one": "autograd baseline, one backward pass",
    "per task": "autograd baseline, one per task",
}
BASELINE_COLOUR = COLOURS[0]
# Of the candidates' lines, ours first; they have markers, and the baselines' have none.
LINES = (DASHES[0], DASHES[3], DASHES[4], DASHES[5])
# Above bars and baselines.
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.2}
SMALL_NOTE: dict[str, Any] = {"va": "center", "size": 5, "color": "#333333", "bbox": BEHIND, "zorder": 4}
# Inches, of a bar, of a further line of the legend, and of all else.
BAR, LEGEND_LINE, AROUND = 0.085, 0.145, 1.0
# Between methods, in bars.
GAP = 0.7
# In a line of a title above a panel of a third of a page's width.
TITLE_LETTERS = 34
# If the longest bar exceeds TOO_LONG times what nine of ten bars stay below, the axis ends at ENOUGH times that.
TOO_LONG, ENOUGH = 1.9, 1.3
# Otherwise it ends at this multiple of the longest.
ROOM = 1.04


def colours(record: SpeedRecord) -> dict[str, str]:
    """By candidate, ours first."""
    unknown = [peer for peer in peers(record) if peer not in KNOWN]
    found = {**KNOWN, **{peer: OTHERS[place % len(OTHERS)] for place, peer in enumerate(unknown)}}
    return {who: found[who] for who in (OURS, *peers(record))}


def line_styles(record: SpeedRecord) -> dict[str, dict[str, Any]]:
    """Colour and dashes by candidate, ours first."""
    return {
        who: {"color": colour, "linestyle": LINES[place % len(LINES)]}
        for place, (who, colour) in enumerate(colours(record).items())
    }


@dataclass(frozen=True)
class Group:
    """The place of a method's bars: from `top` downwards, one for each candidate that has the method."""

    method: str
    label: str
    candidates: tuple[str, ...]
    top: float

    @property
    def middle(self) -> float:
        return self.top + len(self.candidates) / 2


def groups(measured: Sequence[Entry], who: Iterable[str]) -> tuple[Group, ...]:
    """A group for each method, in units of a bar's height, with GAP between them."""
    order = tuple(who)
    made: list[Group] = []
    for method, label in {entry.method: entry.label for entry in measured}.items():
        present = {candidate for entry in measured if entry.method == method for candidate in entry.cells}
        top = made[-1].top + len(made[-1].candidates) + GAP if made else 0.0
        made.append(Group(method, label, tuple(one for one in order if one in present), top))
    return tuple(made)


def steps_figure(record: SpeedRecord) -> Figure | None:
    """A panel for each workload with a group of bars for each method; None if there are only series."""
    workloads, who = workloads_of(record), colours(record)
    found = {workload.key: entries(record, workload) for workload in workloads}
    rows = groups([entry for workload in workloads for entry in found[workload.key]], who)
    if not rows:
        return None
    bottom = rows[-1].top + len(rows[-1].candidates)
    wide = len(workloads) > 1
    with paper_style():
        handles: list[Artist] = [Patch(color=colour, label=candidate) for candidate, colour in who.items()]
        handles += baseline_handles(record, workloads)
        across = min(len(handles), 5) if wide else 2
        height = AROUND + LEGEND_LINE * (-(-len(handles) // across) - 1) + BAR * (bottom + 2 * GAP)
        figure = Figure(figsize=(WIDTH * (1 + wide), height))
        panels = figure.subplots(1, len(workloads), squeeze=False)[0]
        for place, (axes, workload) in enumerate(zip(panels, workloads, strict=True)):
            _draw_bars(axes, rows, {entry.method: entry for entry in found[workload.key]}, who)
            _draw_baselines(axes, record, workload)
            axes.set_ylim(bottom + GAP, -GAP)
            names = [fill(row.label, LONGEST_LINE) if place == 0 else "" for row in rows]
            axes.set_yticks([row.middle for row in rows], names)
            axes.set_title(f"{workload.key}:\n{fill(workload.label, TITLE_LETTERS)}", fontsize=7.5)
            axes.set_xlabel("Step (ms)")
        figure.legend(handles=handles, loc="outside lower center", ncols=across, handlelength=1.8)
    return figure


def _draw_bars(axes: Axes, rows: Sequence[Group], own: Mapping[str, Entry], who: Mapping[str, str]) -> None:
    """A line from the first to the third quartile ends each bar."""
    lengths: dict[float, float] = {}
    for row in rows:
        entry = own.get(row.method)
        for place, candidate in enumerate(row.candidates):
            y = row.top + place + 0.5
            times = entry.milliseconds(candidate) if entry else None
            if times is not None:
                axes.barh(y, times.median, 1, color=who[candidate], linewidth=0)
                lengths[y] = times.median
                axes.plot([times.low, times.high], [y, y], color=GREY, linewidth=0.7, solid_capstyle="butt")
            elif entry and entry.error(candidate):
                axes.annotate(f"{candidate} failed", (0, y), (2, 0), textcoords="offset points", **SMALL_NOTE)
    _end_axis(axes, lengths)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _end_axis(axes: Axes, bars: Mapping[float, float]) -> None:
    """Ends the axis at the longest bar, or well beyond most bars; longer ones are labelled. bars: length by y."""
    if not bars:
        return
    longest, usual = max(bars.values()), float(np.quantile(list(bars.values()), 0.9))
    end = ENOUGH * usual if longest > TOO_LONG * usual else ROOM * longest
    axes.set_xlim(0, end)
    for y, length in bars.items():
        if length > end:
            axes.text(end, y, f"{three_digits(length)} ▸", ha="right", **SMALL_NOTE)


def _draw_baselines(axes: Axes, record: SpeedRecord, workload: WorkloadRecord) -> None:
    for passes, baseline in baselines(record, workload).items():
        times = spread([1e3 * value for value in baseline.seconds])
        if times is not None:
            axes.axvline(
                times.median, color=BASELINE_COLOUR, linewidth=0.9, linestyle=BASELINE_DASHES[passes], zorder=3
            )


def baseline_handles(record: SpeedRecord, workloads: Sequence[WorkloadRecord]) -> list[Line2D]:
    """For the legend: the baselines that any of the workloads has."""
    there = {
        passes for workload in workloads for passes, baseline in baselines(record, workload).items() if baseline.seconds
    }
    return [
        Line2D([], [], color=BASELINE_COLOUR, linewidth=0.9, linestyle=BASELINE_DASHES[passes], label=name)
        for passes, name in BASELINE_NAMES.items()
        if passes in there
    ]
