"""The front of scalarisations: what fixed weights reach, and which methods they dominate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bench.records.record import TaskRecord
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.overall import task_score
from bench.reporting.statistics import mean

FIXED = "fixed"  # the key of the weighting
FEWEST = 2  # rows of fixed weights that make a front
MOST_TASKS = 4  # whose pairs are shown


@dataclass(frozen=True)
class Point:
    """A row on the axes of the tasks. scores (m,): of each task on test, the mean over seeds; higher is better."""

    row: Variant
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Front:
    """The rows of a comparison in the space of task scores.

    fixed: those with fixed weights. methods: the others.
    left_out: labels of rows in which a seed or a score is missing.
    """

    tasks: tuple[TaskRecord, ...]
    fixed: tuple[Point, ...]
    methods: tuple[Point, ...]
    left_out: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of tasks that are shown; none if there are many."""
        return list(combinations(range(len(self.tasks)), 2)) if len(self.tasks) <= MOST_TASKS else []


def front_of(comparison: Comparison) -> Front | None:
    """The front of a comparison; None without several rows of fixed weights or with one task."""
    points, left_out = [], []
    for row in comparison.variants:
        scores = _scores(comparison, row) if row in comparison.complete else ()
        if scores and all(math.isfinite(score) for score in scores):
            points.append(Point(row, scores))
        else:
            left_out.append(row.label)
    fixed = tuple(point for point in points if point.row.first.weighting == FIXED)
    others = tuple(point for point in points if point not in fixed)
    if len(fixed) < FEWEST or len(comparison.tasks) < 2:
        return None
    return Front(comparison.tasks, fixed, others, tuple(left_out))


def _scores(comparison: Comparison, row: Variant) -> tuple[float, ...]:
    return tuple(mean([task_score(run, task) for run in row.scored.values()]) for task in comparison.tasks)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one point is at least as good in every task, and better in one."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def non_dominated(points: Sequence[Sequence[float]]) -> list[int]:
    """The indices of the points that no other one dominates, in the order of their first score."""
    kept = [place for place, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    return sorted(kept, key=lambda place: tuple(points[place]))


def dominating(front: Front, point: Point, tasks: Sequence[int]) -> int:
    """How many rows of fixed weights dominate a point in these tasks."""
    mine = [point.scores[task] for task in tasks]
    return sum(dominates([fixed.scores[task] for task in tasks], mine) for fixed in front.fixed)
