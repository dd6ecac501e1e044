"""What the reports have of one comparison: its tables and figures by file name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bench.records.store import CURVE
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.contrasts import Contrasts, contrasts_of
from bench.reporting.figures.differences import differences_figure, twins_figure
from bench.reporting.figures.fronts import front_figure
from bench.reporting.figures.lines import curves_figure, positions_figure
from bench.reporting.figures.scores import scores_figure
from bench.reporting.figures.series import band, position_bands, read_series
from bench.reporting.figures.times import times_figure
from bench.reporting.front import front_of
from bench.reporting.tables.budget import budget_table
from bench.reporting.tables.cost import cost_table
from bench.reporting.tables.fronts import front_table
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.spread import spread_table
from bench.reporting.tables.table import Table
from bench.reporting.tables.times import times_table
from bench.reporting.tables.twins import twin_table
from bench.reporting.tables.verdicts import verdict_table
from bench.reporting.times import Times, times_to_target


@dataclass(frozen=True)
class Analysis:
    """A comparison with the statistics of its rows.

    times: None if there is no target.
    spread: None without outcomes per test item.
    budget: None without learning curves.
    """

    comparison: Comparison
    contrasts: Contrasts
    times: Times | None
    spread: Table | None
    budget: Table | None


def analysed(results: Path, comparison: Comparison) -> Analysis:
    """The statistics of a comparison, from its records and what lies beside them."""
    return Analysis(
        comparison,
        contrasts_of(results, comparison),
        times_to_target(results, comparison),
        spread_table(results, comparison),
        budget_table(results, comparison),
    )


def section_tables(analysis: Analysis, spread: bool) -> tuple[Table, ...]:
    """All tables of a comparison, the scores first. `spread`: with the standard deviation over seeds."""
    comparison, contrasts, times = analysis.comparison, analysis.contrasts, analysis.times
    twins, front = twin_table(comparison, contrasts), front_of(comparison)
    tables = [
        *score_tables(comparison, spread),
        verdict_table(comparison, contrasts),
        *([twins] if twins else []),
        *([times_table(comparison, times)] if times else []),
        *([analysis.spread] if analysis.spread else []),
        *([analysis.budget] if analysis.budget else []),
        *([front_table(comparison, front)] if front and front.methods else []),
        cost_table(comparison),
    ]
    return tuple(tables)


def section_titles(comparison: Comparison) -> dict[str, str]:
    """Title of each figure by file name."""
    titles = {
        "scores": "Scores of all finished seeds; a bar marks the mean",
        "differences": "Difference from EW in the overall test score with 95 % interval; filled if this leaves out 0",
        "twins": "Each method against its frozen twin: paired difference with 95 % interval",
        "curves": "Learning curves: mean over finished seeds, shaded from the lowest to the highest",
        "front": "The front of scalarisations: means over seeds on test for each pair of tasks, higher is better",
        "times": "Steps to target of every seed; a bar marks the median",
    }
    for variant in comparison.variants:
        of = f"Task positions of {variant.label}"
        titles[_positions_name(variant)] = f"{of}: mean over finished seeds, shaded from the lowest to the highest"
    return titles


def section_figures(results: Path, analysis: Analysis, tasks: Sequence[str]) -> dict[str, Figure]:
    """Figures by file name, without those that have nothing to show."""
    comparison, contrasts, times = analysis.comparison, analysis.contrasts, analysis.times
    front = front_of(comparison)
    figures = {
        "scores": scores_figure(comparison),
        "differences": differences_figure(comparison, contrasts),
        "twins": twins_figure(comparison, contrasts),
        "curves": _curves(results, comparison),
        "front": front_figure(comparison, front) if front else None,
        "times": times_figure(comparison, times) if times else None,
    }
    for variant in comparison.variants:
        bands = position_bands(results, comparison, variant)
        figures[_positions_name(variant)] = positions_figure(comparison, bands, tasks)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _positions_name(variant: Variant) -> str:
    return "positions-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", variant.key).strip("-")


def _curves(results: Path, comparison: Comparison) -> Figure | None:
    bands = {}
    for variant in comparison.variants:
        frames = read_series(results, comparison, variant, CURVE, ("epoch", "score"))
        bands[variant.key] = band(frames, "epoch", "score")
    return curves_figure(comparison, {key: found for key, found in bands.items() if found is not None})
