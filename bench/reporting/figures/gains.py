"""The figure of gains per task: a heat map of rows and tasks, over EW and over single-task networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from bench.records.record import Record
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.figures.style import WIDTH, folded, paper_style
from bench.reporting.overall import by_score
from bench.reporting.statistics import mean, task_gain

Numbers = npt.NDArray[np.float64]
FEW = 8  # tasks whose cells carry their numbers
# Inches, of a row, and of the heads of columns and what else is around the cells.
ROW, AROUND = 0.17, 1.0
SMALLEST = 0.05  # number that isn't printed as 0.0
SATURATION = 0.98  # quantile of the absolute values at which colours saturate


def gains_figure(comparison: Comparison) -> Figure | None:
    """The relative gain of each row on each task, in per cent, paired by seed; None without a row of EW.

    A second panel is over single-task networks, if there are any. The rows are in the order of their scores.
    """
    rows = by_score(comparison, [variant for variant in comparison.shown if variant.scored])
    ew = comparison.baseline.scored if comparison.baseline else {}
    references: dict[str, Mapping[int, Record]] = {"EW": ew, "single-task networks": comparison.single_task}
    found = {name: task_gains(comparison, rows, runs) for name, runs in references.items()}
    found = {name: gains for name, gains in found.items() if np.isfinite(gains).any()}
    if "EW" not in found or len(rows) < 2:
        return None
    few = len(comparison.tasks) <= FEW
    deep, across = (1, len(found)) if few else (len(found), 1)
    with paper_style():
        figure = Figure(figsize=(2 * WIDTH, deep * (AROUND + ROW * len(rows))))
        grid = figure.subplots(deep, across, squeeze=False).flatten()
        limit = _limit(list(found.values()))
        for place, (axes, (name, gains)) in enumerate(zip(grid, found.items(), strict=True)):
            image = _draw(axes, gains, limit, few)
            axes.set_yticks(range(len(rows)), [folded(row.label) if place == 0 or not few else "" for row in rows])
            last = few or place == len(found) - 1
            tasks = [folded(task.label) for task in comparison.tasks]
            axes.set_xticks(range(len(tasks)), tasks if last else [""] * len(tasks), rotation=0 if few else 90)
            axes.set_title(f"Gain over {name} (%)")
        bar = figure.colorbar(image, ax=list(grid), location="right", fraction=0.03, pad=0.01, aspect=35, extend="both")
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure


def task_gains(comparison: Comparison, rows: Sequence[Variant], references: Mapping[int, Record]) -> Numbers:
    """(rows, tasks) mean relative gains in per cent over the seeds that both have; NaN where there are none."""
    gains = np.full((len(rows), len(comparison.tasks)), np.nan)
    for place, row in enumerate(rows):
        seeds = [seed for seed in row.scored if seed in references]
        for column, task in enumerate(comparison.tasks):
            values = [task_gain(row.scored[seed].test, references[seed].test, task) for seed in seeds]
            values = [value for value in values if math.isfinite(value)]
            if values and len(values) == len(seeds):
                gains[place, column] = 100 * mean(values)
    return gains


def _limit(panels: Sequence[Numbers]) -> float:
    sizes = np.abs(np.concatenate([panel[np.isfinite(panel)] for panel in panels]))
    return float(np.quantile(sizes, SATURATION)) or 1.0


def _draw(axes: Axes, gains: Numbers, limit: float, numbers: bool) -> AxesImage:
    """Blue: better. Red: worse. Grey: no number. Returns what the colour bar explains."""
    image = axes.imshow(gains, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_facecolor("#dddddd")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    dark = image.to_rgba(gains)[..., :3].mean(axis=2) < 0.55
    for (row, column), value in np.ndenumerate(gains) if numbers else ():
        if math.isfinite(value):
            text = f"{value:+.1f}".replace("-", "−") if abs(value) >= SMALLEST else "0.0"
            colour = "white" if dark[row, column] else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    return image
