"""How tasks are related, in figures: a tree of position distances, and heat maps of all that they are compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import dendrogram

from bench.analyses.relations.agreement import Measure, Numbers, Relations, square, tree, tree_order
from bench.reporting.figures.style import COLOURS, WIDTH, paper_style

# Inches.
LEAF_HEIGHT = 0.135
# Rows of this height still carry a name each, in type of SMALL points.
CELL = 0.068
SMALL = 4.7
# Up to this many tasks: values stand in the cells, names also below them, and all maps in one row.
FEW = 8
# Dark blue is close and alike, red is opposed, in every map; the diagonal, which says nothing, is grey.
NEAR = LinearSegmentedColormap.from_list("near", ("#2166ac", "#92c5de", "#f7f7f7"))
ALIKE = LinearSegmentedColormap.from_list("alike", ("#b2182b", "#f4a582", "#f7f7f7", "#92c5de", "#2166ac"))
NOTHING = "#dddddd"
# Share of the values of many tasks that colours tell apart; those beyond have the colour of the end.
WITHIN = 0.98


def tree_figure(relations: Relations) -> Figure:
    """The tree of average linkage on the mean distances; a fork stands at the mean distance of what it joins."""
    m = len(relations.tasks)
    drawn = dendrogram(tree(relations.distances.mean), no_plot=True)
    with paper_style():
        figure = Figure(figsize=(WIDTH, 0.55 + LEAF_HEIGHT * max(m, FEW)))
        axes = figure.subplots()
        for along, across in zip(drawn["icoord"], drawn["dcoord"], strict=True):
            axes.plot(across, along, color=COLOURS[0], linewidth=0.9, solid_joinstyle="miter")
        # scipy puts leaf k at 5 + 10 k.
        axes.set_yticks([5 + 10 * k for k in range(m)], [relations.labels[place] for place in drawn["leaves"]])
        axes.set_ylim(10 * m, 0)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0, labelsize=7 if m <= FEW else 6.5)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel("Distance between task positions")
    return figure


def maps_figure(relations: Relations) -> Figure:
    """Distances and what they are compared with, means over seeds, as matrices of tasks in the order of the tree."""
    order = tree_order(relations.distances.mean)
    names = [relations.labels[place] for place in order]
    shown = (relations.distances, *(measure for measure in relations.measures if measure.drawn))
    columns = len(shown) if len(order) <= FEW else 2
    rows = -(-len(shown) // columns)
    with paper_style():
        figure = Figure(figsize=(2 * WIDTH, rows * _row_height(len(order), columns)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for place, (axes, measure) in enumerate(zip(grid.flat, shown, strict=False)):
            _draw_map(axes, square(measure.mean)[np.ix_(order, order)], measure)
            _name_tasks(axes, names, beside=place % columns == 0)
    return figure


def _row_height(m: int, columns: int) -> float:
    """Inches for a row of maps with their title, colour bar and names."""
    return 2 * WIDTH / columns + 0.45 if m <= FEW else CELL * m + 0.6


def _draw_map(axes: Axes, matrix: Numbers, measure: Measure) -> None:
    values = matrix.copy()
    np.fill_diagonal(values, np.nan)
    low, high = _limits(values, measure)
    image = axes.imshow(values, cmap=_colours(measure), aspect="equal", vmin=low, vmax=high)
    axes.set_facecolor(NOTHING)
    axes.spines[:].set_visible(False)
    axes.set_title(measure.label, fontsize=7.5)
    bar = axes.figure.colorbar(
        image,
        ax=axes,
        orientation="horizontal",
        fraction=0.04,
        pad=0.02,
        aspect=30,
        shrink=0.85,
        extend=_beyond(values, low, high),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, width=0.5, length=2)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    if len(values) <= FEW:
        _write_values(axes, values)


def _colours(measure: Measure) -> Colormap:
    return NEAR if measure.name == "distance" else ALIKE


def _limits(values: Numbers, measure: Measure) -> tuple[float, float]:
    """From 0 for distances, otherwise as far below 0 as above it. Of many tasks, a few extreme pairs don't count."""
    sizes = np.abs(values[np.isfinite(values)])
    most = float(np.quantile(sizes, 1.0 if len(values) <= FEW else WITHIN)) if len(sizes) else 0.0
    most = most or 1.0
    return 0.0 if measure.name == "distance" else -most, most


def _beyond(values: Numbers, low: float, high: float) -> Literal["neither", "min", "max", "both"]:
    """The ends of the colour bar beyond which there are values, as matplotlib calls them."""
    below, above = bool((values < low).any()), bool((values > high).any())
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"


def _write_values(axes: Axes, values: Numbers) -> None:
    (image,) = axes.images
    brightness = image.to_rgba(values)[..., :3].mean(axis=2)
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            colour = "white" if brightness[row, column] < 0.6 else "black"
            axes.text(column, row, f"{value:#.2g}".replace("-", "−"), ha="center", va="center", color=colour, size=6)


def _name_tasks(axes: Axes, names: Sequence[str], beside: bool) -> None:
    few = len(names) <= FEW
    places = range(len(names))
    axes.set_yticks(places, names if beside else [""] * len(names))
    axes.set_xticks(places if few else [], names if few else [], rotation=90)
    axes.tick_params(length=0, pad=1.5, labelsize=7 if few else SMALL)
