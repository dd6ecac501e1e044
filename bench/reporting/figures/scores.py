"""Figures for a paper's column: scores of all seeds, learning curves, task positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.records.record import MetricRecord
from bench.records.store import atomic_write
from bench.reporting.estimates.summary import mean
from bench.reporting.figures.series import Band
from bench.reporting.study import Study
from bench.reporting.tables.measures import finite, headline
from bench.reporting.tables.scores import CONSTANT, PERCENT, show

# Inches: a column of a two-column page.
WIDTH = 3.4
# P. Tol, "Colour schemes", the scheme "muted", which people with any colour vision can tell apart; EW is near black.
COLOURS = (
    "#222222", "#88ccee", "#117733", "#cc6677", "#999933", "#44aa99", "#882255", "#332288", "#e08214", "#aa4499",
)  # fmt: skip
DASHES: tuple[Any, ...] = (
    "-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (9, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)),
)  # fmt: skip
# Height of a further line of a row's label, in rows.
EXTRA_LINE = 0.7
# Tasks drawn where a problem has more.
MOST_LINES = 10
STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
}
# Without the date and the program, the same records give the same bytes.
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Line:
    """A named line with its band."""

    label: str
    colour: str
    dashes: Any
    band: Band


@contextmanager
def paper_style() -> Iterator[None]:
    """Our style over matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Writes <stem>.pdf and <stem>.png, each whole."""
    paths = []
    for ending, metadata in PLAIN.items():
        path = stem.with_name(f"{stem.name}.{ending}")

        def write(temporary: Path, ending: str = ending, metadata: Mapping[str, Any] = metadata) -> None:
            with paper_style():
                figure.savefig(temporary, format=ending, metadata=dict(metadata))

        atomic_write(path, write)
        paths.append(path)
    return tuple(paths)


def looks(study: Study) -> dict[str, tuple[str, Any]]:
    """Colour and dashes by variant: a colour per method, the same in all figures; dashes tell its variants apart."""
    found: dict[str, tuple[str, Any]] = {}
    used: Counter[str] = Counter()
    for variant in study.variants:
        colour = COLOURS[variant.colour % len(COLOURS)]
        found[variant.key] = (colour, DASHES[used[colour] % len(DASHES)])
        used[colour] += 1
    return found


def scores_figure(study: Study) -> Figure | None:
    """One line of dots per method, one dot per seed, a bar at the mean; None where no run is done."""
    measure = headline(study)
    scale = 100 if measure.unit == PERCENT else 1
    rows = [(v, finite(measure.values({s: r.test for s, r in v.scored.items()}))) for v in study.variants]
    if not any(values for _, values in rows):
        return None
    with paper_style():
        labels = [_folded(variant.label) for variant, _ in rows]
        heights = [1 + EXTRA_LINE * label.count("\n") for label in labels]
        places = [sum(heights[:row]) + heights[row] / 2 for row in range(len(rows))]
        figure = Figure(figsize=(WIDTH, 0.7 + 0.2 * sum(heights)))
        axes = figure.subplots()
        for place, (variant, values) in zip(places, rows, strict=True):
            colour = looks(study)[variant.key][0]
            dots = [scale * value for value in values.values()]
            axes.plot(dots, [place] * len(dots), "o", color=colour, markersize=3.6, alpha=0.65, markeredgewidth=0)
            if values and len(values) == len(variant.scored):
                axes.plot([mean(dots)], [place], "|", color=colour, markersize=11, markeredgewidth=1.6)
        axes.set_yticks(places, labels)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        remark = _draw_constant(axes, study, scale)
        # Below the whole figure: beside long names, the axis is too short for it.
        figure.supxlabel("\n".join(filter(None, (_axis_label(study), remark))), fontsize=STYLE["axes.labelsize"])
    return figure


def _draw_constant(axes: Axes, study: Study, scale: float) -> str:
    """The constant answer as a dashed line where it stands near the dots; returns a remark that gives its value."""
    measure = headline(study)
    seeds = tuple(study.baseline.scored) if study.baseline else study.seeds[:1]
    values = finite(measure.values(dict.fromkeys(seeds, study.reference)))
    if not study.reference or not values:
        return ""
    value = scale * mean(values.values())
    low, high = axes.get_xlim()
    near = (high - low) / 2
    if low - near <= value <= high + near:
        axes.axvline(value, color="#777777", linewidth=0.8, linestyle=(0, (4, 2)))
        where = "dashed line"
    else:
        where = f"further {'left' if value < low else 'right'}"
    return f"{CONSTANT}: {show(value / scale, measure.unit)} ({where})".replace("-", "−")


def _axis_label(study: Study) -> str:
    if study.selection == "gain":
        return r"$\Delta_b$ on test (%)"
    metric = study.tasks[0].metrics[0]
    return f"Average test {_named(metric)}"


def _named(metric: MetricRecord) -> str:
    return f"{metric.label.lower()}{f' ({metric.unit})' if metric.unit else ''}"


def curves_figure(study: Study, bands: Mapping[str, Band]) -> Figure | None:
    """Validation score over epochs, one line per variant; None without curves."""
    style = looks(study)
    lines = [Line(v.label, *style[v.key], bands[v.key]) for v in study.variants if v.key in bands]
    if study.selection == "gain":
        return _lines_figure(lines, "Epoch", "Validation log gain", 1)
    metric = study.tasks[0].metrics[0]
    return _lines_figure(lines, "Epoch", f"Validation {_named(metric)}", 100 if metric.unit == PERCENT else 1)


def positions_figure(study: Study, bands: Mapping[str, Band], chosen: Sequence[str] = ()) -> Figure | None:
    """Task positions over steps: of the chosen tasks, or of all; of many, some spread evenly over where they end."""
    final = sorted(bands, key=lambda key: float(bands[key].mean[-1]), reverse=True)
    if any(key in bands for key in chosen):
        final = [key for key in final if key in chosen]
    elif len(final) > MOST_LINES:
        final = [final[place] for place in np.linspace(0, len(final) - 1, MOST_LINES).round().astype(int)]
    labels = {task.key: task.label for task in study.tasks}
    lines = [
        Line(labels[key], COLOURS[place % len(COLOURS)], DASHES[place % 2], bands[key])
        for place, key in enumerate(final)
    ]
    return _lines_figure(lines, "Training step", "Task position", 1)


def _lines_figure(lines: Sequence[Line], x: str, y: str, scale: float) -> Figure | None:
    if not lines:
        return None
    with paper_style():
        labels = [_folded(line.label) for line in lines]
        columns = _legend_columns(labels)
        rows = -(-len(labels) // columns)
        depths = [1 + label.count("\n") for label in labels]
        deepest = max(sum(depths[first : first + rows]) for first in range(0, len(depths), rows))
        figure = Figure(figsize=(WIDTH, 1.95 + 0.14 * deepest))
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


def _legend_columns(labels: Sequence[str]) -> int:
    """As many columns as fit below the axes, and no more than fill evenly."""
    longest = max(len(line) for label in labels for line in label.split("\n"))
    most = 3 if longest <= 16 else 2 if longest <= 28 else 1
    rows = -(-len(labels) // most)
    return -(-len(labels) // rows)


def _folded(label: str) -> str:
    """A label with its settings on lines of their own, and no mathematics in it."""
    return label.replace("$", r"\$").replace(" (", "\n(").replace(", ", ",\n ")
