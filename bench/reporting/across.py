"""The rows of a study over all its problems: ranks with intervals, and ratios of times to target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.describe import Array
from bench.reporting.inference.ranks import MeanRank, mean_ranks
from bench.reporting.inference.targets import time_ratios
from bench.reporting.overall import score_matrix
from bench.reporting.sections import Analysis


@dataclass(frozen=True)
class Across:
    """The problems that have rows in common, in one part of a study.

    part: name of the study's table; empty for all rows.
    problems: those that count. controls: labels of those that don't, since their answer is known.
    others: labels of further comparisons on the same data sets, which would count a problem twice.
    labels: of all rows, in their order, whatever is shown.
    ranks: by label.
    """

    part: str
    problems: tuple[Analysis, ...]
    controls: tuple[str, ...]
    others: tuple[str, ...]
    labels: tuple[str, ...]
    ranks: Mapping[str, MeanRank]

    def row(self, problem: Analysis, label: str) -> Variant | None:
        """The row of a problem with this label."""
        return next((v for v in problem.comparison.variants if v.label == label), None)

    @property
    def shown(self) -> tuple[str, ...]:
        """Labels of the rows that are shown on a problem, in their order."""
        shown = {v.label for problem in self.problems for v in problem.comparison.shown}
        return tuple(label for label in self.labels if label in shown)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Labels of the other rows."""
        shown = self.shown
        return tuple(label for label in self.labels if label not in shown)

    @property
    def colours(self) -> dict[str, int]:
        """Index of the colour of each row, by label."""
        return {v.label: v.colour for problem in self.problems for v in problem.comparison.variants}


def across_problems(analyses: Sequence[Analysis]) -> tuple[Across, ...]:
    """One for each part of a study that has at least two problems which are no controls, and a row to show on them."""
    parts = dict.fromkeys(analysis.comparison.part for analysis in analyses)
    found = [_across(part, [one for one in analyses if one.comparison.part == part]) for part in parts]
    return tuple(one for one in found if len(one.problems) > 1 and one.shown)


def _across(part: str, analyses: Sequence[Analysis]) -> Across:
    controls = [one for one in analyses if one.comparison.control]
    by_data: dict[str, list[Analysis]] = {}
    for one in analyses:
        if not one.comparison.control:
            by_data.setdefault(one.comparison.data, []).append(one)
    problems = tuple(max(same, key=lambda one: len(one.comparison.variants)) for same in by_data.values())
    others = [one for same in by_data.values() for one in same if not any(one is kept for kept in problems)]
    labels = tuple(dict.fromkeys(v.label for one in problems for v in one.comparison.variants))
    found = mean_ranks([_scores(one.comparison, labels) for one in problems]) if problems else ()
    return Across(
        part,
        problems,
        tuple(one.comparison.problem for one in controls),
        tuple(one.comparison.problem for one in others),
        labels,
        dict(zip(labels, found, strict=True)),
    )


def _scores(comparison: Comparison, labels: Sequence[str]) -> Array:
    """Overall test scores (rows, seeds); NaN for a run that was not made or failed, -inf for one that diverged."""
    rows = {v.label: v for v in comparison.variants}
    scores = np.full((len(labels), len(comparison.seeds)), np.nan)
    for place, label in enumerate(labels):
        if label in rows:
            own = score_matrix([rows[label]], comparison.seeds)[0]
            runs = [rows[label].runs.get(seed) for seed in comparison.seeds]
            diverged = [run is not None and run.status == "diverged" for run in runs]
            scores[place] = np.where(diverged, -np.inf, own)
    return scores


def times_ratios(across: Across) -> dict[str, list[float]]:
    """By label, for each problem, the median steps to target over the fewest of all rows; infinite if it never is.

    Only problems with a target that some row reaches, and rows with all their runs on all of these.
    """
    medians: list[dict[str, float]] = []
    for problem in across.problems:
        rows = {label: across.row(problem, label) for label in across.labels}
        times = problem.times
        found = {label: times.median(row) for label, row in rows.items() if times and row}
        steps = {label: median.steps for label, median in found.items() if median is not None}
        if any(math.isfinite(value) for value in steps.values()):
            medians.append(steps)
    labels = [label for label in across.labels if medians and all(label in steps for steps in medians)]
    if not labels:
        return {}
    ratios = time_ratios(np.array([[steps[label] for label in labels] for steps in medians]))  # (problems, rows)
    return {label: ratios[:, place].tolist() for place, label in enumerate(labels)}
