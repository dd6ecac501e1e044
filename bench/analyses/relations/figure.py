"""Figures of task relations: a dendrogram of the position distances, and a heat map of every measure."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

from bench.analyses.relations.agreement import DISTANCE, Measure, Numbers, Relations, square
from bench.reporting.figures.style import COLOURS, WIDTH, paper_style

# Inches: a leaf of the dendrogram, and a cell of a heat map with many tasks.
LEAF_HEIGHT, CELL = 0.135, 0.068
# Up to this many tasks, cells carry their values and all heat maps stand in one row.
FEW = 8
# Quantile of the absolute values of many tasks at which colours saturate.
SATURATION = 0.98


def dendrogram_figure(relations: Relations) -> Figure:
    """Average linkage of the mean position distances."""
    names = list(relations.tasks.values())
    with paper_style():
        figure = Figure(figsize=(WIDTH, 0.55 + LEAF_HEIGHT * max(len(names), FEW)))
        axes = figure.subplots()
        dendrogram(
            _linkage(relations), ax=axes, orientation="right", labels=names, leaf_font_size=6.5, color_threshold=0,
            above_threshold_color=COLOURS[0],
        )  # fmt: skip
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel("Distance between task positions")
    return figure


def _linkage(relations: Relations) -> Numbers:
    return np.asarray(linkage(relations.measures[0].mean(), method="average", optimal_ordering=True))


def heatmap_figure(relations: Relations) -> Figure:
    """The mean of every measure over seeds as a matrix of tasks, in the order of the dendrogram."""
    order = leaves_list(_linkage(relations))
    names, few = [list(relations.tasks.values())[task] for task in order], len(order) <= FEW
    measures = [measure for measure in relations.known if measure.name != "label_association"]  # φ shows it
    columns = len(measures) if few else 2
    rows = math.ceil(len(measures) / columns)
    height = 2 * WIDTH / columns + 0.45 if few else CELL * len(order) + 0.6
    with paper_style():
        figure = Figure(figsize=(2 * WIDTH, rows * height))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(measures) :]:
            axes.set_visible(False)
        for place, (axes, measure) in enumerate(zip(grid.flat, measures, strict=False)):
            _draw_heatmap(axes, square(measure.mean())[np.ix_(order, order)], measure)
            axes.set_yticks(range(len(names)), names if place % columns == 0 else [""] * len(names))
            axes.set_xticks(range(len(names)) if few else [], names if few else [], rotation=90)
            axes.tick_params(length=0, pad=1.5, labelsize=7 if few else 4.7)
    return figure


def _draw_heatmap(axes: Axes, matrix: Numbers, measure: Measure) -> None:
    """Dark blue: close, or similar. Red: opposed. The diagonal is left out."""
    np.fill_diagonal(matrix, np.nan)
    few, distance = len(matrix) <= FEW, measure.name == DISTANCE
    limit = float(np.nanquantile(np.abs(matrix), 1.0 if few else SATURATION)) or 1.0
    colours, low = ("Blues_r", 0.0) if distance else ("RdBu", -limit)
    image = axes.imshow(matrix, cmap=colours, vmin=low, vmax=limit)
    axes.set_facecolor("#dddddd")
    axes.spines[:].set_visible(False)
    axes.set_title(measure.title, fontsize=7.5)
    beyond = "neither" if few else "max" if distance else "both"
    bar = axes.figure.colorbar(
        image, ax=axes, location="bottom", fraction=0.04, pad=0.02, aspect=30, shrink=0.85, extend=beyond
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, width=0.5, length=2)
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    dark = image.to_rgba(matrix)[..., :3].mean(axis=2) < 0.6
    for (row, column), value in np.ndenumerate(matrix) if few else ():
        text = f"{value:#.2g}".replace("-", "−") if math.isfinite(value) else ""
        axes.text(column, row, text, ha="center", va="center", color="white" if dark[row, column] else "black", size=6)
