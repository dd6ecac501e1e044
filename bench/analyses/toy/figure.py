"""The toy problem in a figure: what a method's trajectories do in the plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bench.reporting.figures.style import COLOURS, STYLE, WIDTH

Points = NDArray[np.float64]

# Half the side of the square that is shown, and points along a side of the grid that the contours come from.
REACH = 11.0
GRID = 240
LEVELS = 18
# Points drawn of a path, which may have many thousands.
MOST_POINTS = 1500
# One for each start; none of them is EW's near black, which the front wears.
START_COLOURS = (COLOURS[3], COLOURS[7], COLOURS[2], COLOURS[8], COLOURS[9])
# Pale enough for every trajectory to stand out; low is dark.
GROUND = LinearSegmentedColormap.from_list("ground", ("#b9c9d6", "#dfe7ec", "#fbfaf6"))
FRONT = "#222222"


@dataclass(frozen=True)
class Panel:
    """One scaling of the losses.

    surface: points (n, 2) -> (n,) the sum of the scaled losses. front: (n, 2). least: (2,) where the sum is least on
    the front. paths: by start, each (steps + 1, 2). reached: by start, whether the path ends at the front.
    """

    title: str
    surface: Callable[[Points], Points]
    front: Points
    least: Points
    paths: Sequence[Points]
    reached: Sequence[bool]


def toy_figure(label: str, panels: Sequence[Panel]) -> Figure:
    """The panels side by side under the method's name: contours, front, and one line per start."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(2 * WIDTH, WIDTH + 0.55))
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            _draw(axes, panel)
        row[0].set_ylabel("$\\theta_2$", parse_math=True)
        figure.suptitle(label, fontsize=9, fontweight="bold")
        figure.legend(handles=_keys(), loc="outside lower center", ncols=5, handletextpad=0.5, columnspacing=1.8)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    side = np.linspace(-REACH, REACH, GRID)
    across, up = np.meshgrid(side, side)
    height = panel.surface(np.stack((across.ravel(), up.ravel()), axis=1)).reshape(across.shape)
    # Between the quantiles, so that the two narrow valleys don't take all levels.
    low, high = np.quantile(height, (0.0, 0.995)).tolist()
    levels = np.linspace(low, high, LEVELS)
    ground = axes.contourf(across, up, height, levels=levels, cmap=GROUND, extend="both")
    ground.set_edgecolor("face")
    axes.contour(across, up, height, levels=levels, colors="#8fa3b3", linewidths=0.35, linestyles="-")
    axes.plot(*panel.front.T, color=FRONT, linewidth=3.2, solid_capstyle="round", zorder=3)
    axes.plot(*panel.least, "*", color="#ffd54a", markeredgecolor=FRONT, markeredgewidth=0.6, markersize=12, zorder=6)
    for colour, path, reached in zip(START_COLOURS, panel.paths, panel.reached, strict=False):
        shown = path[np.unique(np.linspace(0, len(path) - 1, MOST_POINTS).astype(int))]
        axes.plot(*shown.T, color="white", linewidth=2.4, alpha=0.7, zorder=4, solid_joinstyle="round")
        axes.plot(*shown.T, color=colour, linewidth=1.2, zorder=5, solid_joinstyle="round")
        axes.plot(*path[0], "o", color="white", markeredgecolor=colour, markeredgewidth=1.3, markersize=5, zorder=7)
        axes.plot(
            *path[-1], "o" if reached else "X", color=colour, markeredgecolor="white", markeredgewidth=0.7,
            markersize=5.5 if reached else 7, zorder=8,
        )  # fmt: skip
    axes.set_title(f"{panel.title}: {sum(panel.reached)} of {len(panel.reached)} reach the front", fontsize=8)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    axes.set_xlabel("$\\theta_1$", parse_math=True)
    axes.set_xticks(range(-10, 11, 5))
    axes.set_yticks(range(-10, 11, 5))
    axes.spines[["top", "right"]].set_visible(True)


def _keys() -> list[Line2D]:
    grey = "#777777"
    return [
        Line2D([], [], marker="o", color=grey, linewidth=0, mfc="white", markeredgewidth=1.3, label="start"),
        Line2D([], [], marker="o", color=grey, linewidth=0, label="end at the front"),
        Line2D([], [], marker="X", color=grey, linewidth=0, label="end elsewhere"),
        Line2D([], [], color=FRONT, linewidth=3.2, solid_capstyle="round", label="Pareto front"),
        Line2D([], [], marker="*", color="#ffd54a", linewidth=0, markersize=9, markeredgecolor=FRONT,
               markeredgewidth=0.6, label="least sum on the front"),
    ]  # fmt: skip
