"""What the reports have of one comparison: its tables and figures by file name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.contrasts import Contrasts, contrasts_of
from bench.reporting.figures.cost import cost_figure
from bench.reporting.figures.differences import differences_figure, twins_figure
from bench.reporting.figures.fronts import front_figure
from bench.reporting.figures.gains import gains_figure
from bench.reporting.figures.lines import MOST_PANELS, MOST_SHADED
from bench.reporting.figures.scores import scores_figure
from bench.reporting.figures.times import times_figure
from bench.reporting.figures.training import (
    agreement_figure,
    curves_figure,
    positions_figure,
    task_curves_figure,
    weights_figure,
)
from bench.reporting.front import front_of
from bench.reporting.labels import with_hidden_rows
from bench.reporting.logged import agreement_bands, position_bands, score_bands, task_bands, weight_bands
from bench.reporting.options import USUAL, Options, shown
from bench.reporting.series import Tables
from bench.reporting.tables.budget import budget_table
from bench.reporting.tables.cost import cost_table
from bench.reporting.tables.fronts import front_table
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.spread import spread_table
from bench.reporting.tables.table import Table, without_rows
from bench.reporting.tables.times import times_table
from bench.reporting.tables.twins import twin_table
from bench.reporting.tables.verdicts import verdict_table
from bench.reporting.times import Times, times_to_target


@dataclass(frozen=True)
class Analysis:
    """A comparison with the statistics of its rows.

    comparison: of all rows, and which of them are shown. All else is computed from all rows.
    times: None if there is no target.
    spread: None without outcomes per test item.
    budget: None without learning curves.
    """

    comparison: Comparison
    contrasts: Contrasts
    times: Times | None
    spread: Table | None
    budget: Table | None


def analysed(results: Path, comparison: Comparison, curves: Tables, options: Options = USUAL) -> Analysis:
    """The statistics of a comparison, from its records and what lies beside them.

    curves: its learning curves, as of `read_curves`. options: what is shown.
    """
    part = shown(comparison, options)
    return Analysis(
        part,
        contrasts_of(results, comparison),
        times_to_target(comparison, curves),
        spread_table(results, part),
        budget_table(part, curves),
    )


def section_tables(analysis: Analysis, options: Options) -> tuple[Table, ...]:
    """All tables of a comparison, the scores first; none if no row is shown.

    They are computed from all rows; those that are hidden are left out of what is then there.
    """
    comparison, contrasts, times = analysis.comparison, analysis.contrasts, analysis.times
    twins, front = twin_table(comparison, contrasts), front_of(comparison)
    tables = [
        *score_tables(comparison, options),
        verdict_table(comparison, contrasts),
        *([twins] if twins else []),
        *([times_table(comparison, times)] if times else []),
        *([analysis.spread] if analysis.spread else []),
        *([analysis.budget] if analysis.budget else []),
        *([front_table(comparison, front)] if front and front.methods else []),
        cost_table(comparison),
    ]
    if not comparison.shown:
        return ()
    pairs = [(table, without_rows(table, comparison.hidden, comparison.hidden_rows)) for table in tables]
    return tuple(left for whole, left in pairs if left.columns and (left.rows or not whole.rows))


def section_titles(comparison: Comparison) -> dict[str, str]:
    """Title of each figure by file name."""
    zoomed = "the axis spans the means after a quarter of training"
    shades = f"Shades: from the lowest seed to the highest, of at most {MOST_SHADED} lines"
    many = len(comparison.variants) > MOST_PANELS
    most = f". Of more than {MOST_PANELS} rows, those with the best test scores" if many else ""
    titles = {
        "scores": "Scores of all finished seeds, the best mean first; a bar marks the mean",
        "differences": "Difference from EW in the overall test score with 95 % interval; filled if this leaves out 0",
        "twins": "Each method against its frozen twin: paired difference with 95 % interval",
        "gains": "Gain on each task over EW, and over single-task networks: means over seeds, the best score first",
        "cost": "Cost against quality: means over seeds",
        "curves": f"Learning curves: mean over finished seeds; {zoomed}. {shades}{most}",
        "curves-tasks": f"Learning curves of tasks, of at most nine rows; {zoomed}. {shades}",
        "weights": f"Weights during training: mean over finished seeds, of rows whose weights change. {shades}{most}",
        "agreement": "Agreement of task gradients during training: mean over finished seeds, of at most nine rows",
        "front": "The front of scalarisations: means over seeds on test for each pair of tasks, higher is better",
        "times": "Steps to target of every seed, the fastest first; a bar marks the median",
    }
    titles = {name: with_hidden_rows(title, comparison.hidden) for name, title in titles.items()}
    for variant in comparison.variants:
        of = f"Task positions of {variant.label}"
        titles[_positions_name(variant)] = f"{of}: mean over finished seeds. {shades}"
    return titles


def section_figures(results: Path, analysis: Analysis, curves: Tables, tasks: Sequence[str]) -> dict[str, Figure]:
    """Figures by file name, without those that have nothing to show; none if no row is shown.

    curves: those that were analysed. tasks: keys of those to draw in figures of positions; () for as many as are
        legible.
    """
    comparison, contrasts, times = analysis.comparison, analysis.contrasts, analysis.times
    if not comparison.shown:
        return {}
    front = front_of(comparison)
    figures = {
        "scores": scores_figure(comparison),
        "differences": differences_figure(comparison, contrasts),
        "twins": twins_figure(comparison, contrasts),
        "gains": gains_figure(comparison),
        "cost": cost_figure(comparison),
        "curves": curves_figure(comparison, score_bands(comparison, curves)),
        "curves-tasks": task_curves_figure(comparison, task_bands(comparison, curves)),
        "weights": weights_figure(comparison, weight_bands(comparison, curves)),
        "agreement": agreement_figure(comparison, *agreement_bands(results, comparison)),
        "front": front_figure(comparison, front) if front else None,
        "times": times_figure(comparison, times) if times else None,
    }
    for variant in comparison.shown:
        bands = position_bands(results, comparison, variant)
        figures[_positions_name(variant)] = positions_figure(comparison, bands, tasks)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _positions_name(variant: Variant) -> str:
    return "positions-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", variant.key).strip("-")
