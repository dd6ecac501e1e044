"""Line figures over training: learning curves and task positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.figures.series import Band
from bench.reporting.figures.style import DASHES, WIDTH, colour_of, folded, metric_name, paper_style

# At most this many tasks are drawn, unless tasks are selected.
MOST_LINES = 10


@dataclass(frozen=True)
class Line:
    """A named line with its band."""

    label: str
    colour: str
    dashes: Any
    band: Band


def curves_figure(comparison: Comparison, bands: Mapping[str, Band]) -> Figure | None:
    """Validation score over epochs, one line per variant; None if there are no curves."""
    style = _line_styles(comparison)
    lines = [Line(v.label, *style[v.key], bands[v.key]) for v in comparison.variants if v.key in bands]
    if comparison.selection == "gain":
        return _lines_figure(lines, "Epoch", "Validation log gain", 1)
    metric = comparison.tasks[0].metrics[0]
    return _lines_figure(lines, "Epoch", f"Validation {metric_name(metric)}", 100 if metric.unit == PERCENT else 1)


def positions_figure(comparison: Comparison, bands: Mapping[str, Band], chosen: Sequence[str] = ()) -> Figure | None:
    """Task positions over steps: of the chosen tasks, or of all.

    Of more than MOST_LINES tasks, some are drawn, evenly spaced in the order of their final positions.
    """
    final = sorted(bands, key=lambda key: float(bands[key].mean[-1]), reverse=True)
    if any(key in bands for key in chosen):
        final = [key for key in final if key in chosen]
    elif len(final) > MOST_LINES:
        final = [final[place] for place in np.linspace(0, len(final) - 1, MOST_LINES).round().astype(int)]
    labels = {task.key: task.label for task in comparison.tasks}
    lines = [Line(labels[key], colour_of(place), DASHES[place % 2], bands[key]) for place, key in enumerate(final)]
    return _lines_figure(lines, "Training step", "Task position", 1)


def _line_styles(comparison: Comparison) -> dict[str, tuple[str, Any]]:
    """Colour and dashes by variant: a colour per method, dashes for its variants."""
    found: dict[str, tuple[str, Any]] = {}
    used: Counter[str] = Counter()
    for variant in comparison.variants:
        colour = colour_of(variant.colour)
        found[variant.key] = (colour, DASHES[used[colour] % len(DASHES)])
        used[colour] += 1
    return found


def _lines_figure(lines: Sequence[Line], x: str, y: str, scale: float) -> Figure | None:
    if not lines:
        return None
    with paper_style():
        labels = [folded(line.label) for line in lines]
        columns = legend_columns(labels)
        figure = Figure(figsize=(WIDTH, 1.95 + 0.14 * legend_depth(labels, columns)))
        axes = figure.subplots()
        handles = []
        for line in lines:
            at = line.band
            axes.fill_between(at.x, scale * at.low, scale * at.high, color=line.colour, alpha=0.13, linewidth=0)
            handles += axes.plot(at.x, scale * at.mean, color=line.colour, linestyle=line.dashes, label=line.label)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.01)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1.2)
    return figure


def legend_depth(labels: Sequence[str], columns: int) -> int:
    """Lines of text in the deepest column of the legend."""
    rows = -(-len(labels) // columns)
    depths = [1 + label.count("\n") for label in labels]
    return max(sum(depths[first : first + rows]) for first in range(0, len(depths), rows))


def legend_columns(labels: Sequence[str]) -> int:
    """As many columns as fit below the axes, and no more than fill evenly."""
    longest = max(len(line) for label in labels for line in label.split("\n"))
    most = 3 if longest <= 16 else 2 if longest <= 28 else 1
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows)
