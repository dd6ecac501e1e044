"""The columns of a table of scores: what is read off the scores of each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.records.record import Direction, MetricRecord, Scores, TaskRecord
from bench.reporting.estimates.delta import delta, look_up
from bench.reporting.estimates.summary import mean
from bench.reporting.study import Study, seed_list

ARROWS: Mapping[Direction, str] = {"higher": "↑", "lower": "↓"}

BySeed = Mapping[int, Scores]


@dataclass(frozen=True)
class Measure:
    """One number per seed, from the test scores of a row's seeds.

    values(scores by seed) -> value by seed, in the recorded unit; seeds without one are left out or NaN.
    absent(seeds) -> the footnote where they are.
    detail(scores by seed) -> a word that stands in parentheses behind the number.
    """

    head: str
    group: str
    task: str
    metric: str
    unit: str
    direction: Direction
    values: Callable[[BySeed], Mapping[int, float]]
    absent: Callable[[tuple[int, ...]], str]
    detail: Callable[[BySeed], str] | None = None

    @property
    def arrow(self) -> str:
        return ARROWS[self.direction]


def _not_recorded(seeds: tuple[int, ...]) -> str:
    return f"no finite score recorded for {seed_list(seeds)}"


def task_measure(task: TaskRecord, metric: MetricRecord, head: str, group: str) -> Measure:
    """One metric of one task."""

    def values(scores: BySeed) -> dict[int, float]:
        return {seed: look_up(one, task.key, metric.key) for seed, one in scores.items()}

    return Measure(head, group, task.key, metric.key, metric.unit, metric.direction, values, _not_recorded)


def average_measure(study: Study, metric: MetricRecord, group: str = "") -> Measure:
    """A metric averaged over the tasks, seed by seed."""

    def values(scores: BySeed) -> dict[int, float]:
        return {
            seed: mean([look_up(one, task.key, metric.key) for task in study.tasks]) for seed, one in scores.items()
        }

    return Measure("Avg", group, "average", metric.key, metric.unit, metric.direction, values, _not_recorded)


def worst_measure(study: Study, metric: MetricRecord, group: str) -> Measure:
    """The task on which the mean over seeds is worst, and which one it is."""
    labels = {task.key: task.label for task in study.tasks}

    def worst(scores: BySeed) -> str:
        means = {key: mean([look_up(one, key, metric.key) for one in scores.values()]) for key in labels}
        if any(math.isnan(value) for value in means.values()):
            return ""
        return (min if metric.direction == "higher" else max)(means, key=means.__getitem__)

    def values(scores: BySeed) -> dict[int, float]:
        key = worst(scores)
        return {seed: look_up(one, key, metric.key) for seed, one in scores.items()}

    def detail(scores: BySeed) -> str:
        return labels.get(worst(scores), "")

    return Measure("Worst", group, "worst", metric.key, metric.unit, metric.direction, values, _not_recorded, detail)


def delta_measure(study: Study) -> Measure:
    """Δ_b, each seed against the equally weighted run of the same seed."""
    baselines = {seed: run.test for seed, run in study.baseline.scored.items()} if study.baseline else {}

    def values(scores: BySeed) -> dict[int, float]:
        return {seed: delta(one, baselines[seed], study.tasks) for seed, one in scores.items() if seed in baselines}

    def absent(seeds: tuple[int, ...]) -> str:
        return f"no EW run to compare with for {seed_list(seeds)}"

    return Measure("Δ_b", "", "all", "delta_b", "%", "higher", values, absent)


def headline(study: Study) -> Measure:
    """The one number by which the methods of a study are compared."""
    return delta_measure(study) if study.selection == "gain" else average_measure(study, study.tasks[0].metrics[0])


def finite(values: Mapping[int, float]) -> dict[int, float]:
    """The seeds whose value is a number."""
    return {seed: value for seed, value in values.items() if math.isfinite(value)}
