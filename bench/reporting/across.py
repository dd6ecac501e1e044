"""The rows of a study over all its problems: ranks with intervals, and ratios of times to target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.contrasts import Estimate, mean_ranks
from bench.reporting.sections import Analysis


@dataclass(frozen=True)
class Across:
    """The problems that have rows in common, in one part of a study.

    part: name of the study's table; empty for all rows.
    problems: those that count. controls: labels of those that don't, since their answer is known.
    others: labels of further comparisons on the same data sets, which would count a problem twice.
    labels: of all rows, in their order.
    ranks: by label, of the rows with every seed of every problem.
    """

    part: str
    problems: tuple[Analysis, ...]
    controls: tuple[str, ...]
    others: tuple[str, ...]
    labels: tuple[str, ...]
    ranks: Mapping[str, Estimate]

    def row(self, problem: Analysis, label: str) -> Variant | None:
        """The row of a problem with this label."""
        return next((v for v in problem.comparison.variants if v.label == label), None)

    @property
    def colours(self) -> dict[str, int]:
        """Index of the colour of each row, by label."""
        return {v.label: v.colour for problem in self.problems for v in problem.comparison.variants}


def across_problems(analyses: Sequence[Analysis]) -> tuple[Across, ...]:
    """One for each part of a study that has at least two problems which are no controls."""
    parts = dict.fromkeys(analysis.comparison.part for analysis in analyses)
    found = [_across(part, [one for one in analyses if one.comparison.part == part]) for part in parts]
    return tuple(one for one in found if len(one.problems) > 1)


def _across(part: str, analyses: Sequence[Analysis]) -> Across:
    controls = [one for one in analyses if one.comparison.control]
    by_data: dict[str, list[Analysis]] = {}
    for one in analyses:
        if not one.comparison.control:
            by_data.setdefault(one.comparison.data, []).append(one)
    problems = tuple(max(same, key=lambda one: len(one.comparison.variants)) for same in by_data.values())
    others = [one for same in by_data.values() for one in same if not any(one is kept for kept in problems)]
    labels = tuple(dict.fromkeys(v.label for one in problems for v in one.comparison.variants))
    whole = [label for label in labels if all(_complete(one.comparison, label) for one in problems)]
    return Across(
        part,
        problems,
        tuple(one.comparison.label for one in controls),
        tuple(one.comparison.label for one in others),
        labels,
        mean_ranks([one.comparison for one in problems], whole),
    )


def _complete(comparison: Comparison, label: str) -> bool:
    return any(variant.label == label for variant in comparison.complete)


def time_ratios(across: Across) -> dict[str, list[float]]:
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
    return {label: [steps[label] / min(steps.values()) for steps in medians] for label in labels}
