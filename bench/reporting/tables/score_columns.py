"""The columns of a table of scores: what is computed from the scores of each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.records.record import Direction, MetricRecord, Record, Scores, TaskRecord
from bench.reporting.comparison import Comparison
from bench.reporting.labels import seed_list
from bench.reporting.statistics import delta, mean, score_of, task_gain

ARROWS: Mapping[Direction, str] = {"higher": "↑", "lower": "↓"}

BySeed = Mapping[int, Scores]


def _not_recorded(seeds: tuple[int, ...]) -> str:
    return f"no finite score recorded for {seed_list(seeds)}"


@dataclass(frozen=True)
class ScoreColumn:
    """One number per seed, computed from the test scores of a row.

    values(scores by seed) -> value by seed, in the recorded unit; seeds without one are left out or NaN.
    absent(seeds) -> the footnote of a cell for which these seeds have no value.
    detail(scores by seed) -> a word in parentheses after the number.
    """

    head: str
    group: str
    task: str
    metric: str
    unit: str
    direction: Direction
    values: Callable[[BySeed], Mapping[int, float]]
    absent: Callable[[tuple[int, ...]], str] = _not_recorded
    detail: Callable[[BySeed], str] | None = None

    @property
    def arrow(self) -> str:
        return ARROWS[self.direction]


def task_column(task: TaskRecord, metric: MetricRecord, head: str, group: str) -> ScoreColumn:
    """One metric of one task."""

    def values(scores: BySeed) -> dict[int, float]:
        return {seed: score_of(one, task.key, metric.key) for seed, one in scores.items()}

    return ScoreColumn(head, group, task.key, metric.key, metric.unit, metric.direction, values)


def average_column(comparison: Comparison, metric: MetricRecord, group: str = "") -> ScoreColumn:
    """A metric averaged over the tasks, seed by seed."""

    def values(scores: BySeed) -> dict[int, float]:
        return {
            seed: mean([score_of(one, task.key, metric.key) for task in comparison.tasks])
            for seed, one in scores.items()
        }

    return ScoreColumn("Avg", group, "average", metric.key, metric.unit, metric.direction, values)


def worst_column(comparison: Comparison, metric: MetricRecord, group: str) -> ScoreColumn:
    """The task with the worst mean over seeds, named after the number."""
    labels = {task.key: task.label for task in comparison.tasks}

    def worst(scores: BySeed) -> str:
        means = {key: mean([score_of(one, key, metric.key) for one in scores.values()]) for key in labels}
        if any(math.isnan(value) for value in means.values()):
            return ""
        return (min if metric.direction == "higher" else max)(means, key=means.__getitem__)

    def values(scores: BySeed) -> dict[int, float]:
        key = worst(scores)
        return {seed: score_of(one, key, metric.key) for seed, one in scores.items()}

    def detail(scores: BySeed) -> str:
        return labels.get(worst(scores), "")

    return ScoreColumn("Worst", group, "worst", metric.key, metric.unit, metric.direction, values, detail=detail)


def delta_column(comparison: Comparison) -> ScoreColumn:
    """Δ_b, each seed against the equally weighted run of the same seed."""
    scored = comparison.baseline.scored if comparison.baseline else {}
    baselines = {seed: run.test for seed, run in scored.items()}

    def values(scores: BySeed) -> dict[int, float]:
        return {
            seed: delta(one, baselines[seed], comparison.tasks) for seed, one in scores.items() if seed in baselines
        }

    def absent(seeds: tuple[int, ...]) -> str:
        return f"no EW run to compare with for {seed_list(seeds)}"

    return ScoreColumn("Δ_b", "", "all", "delta_b", "%", "higher", values, absent)


def single_task_column(comparison: Comparison) -> ScoreColumn | None:
    """Δ_m, each seed against the single-task networks of the same seed, over the tasks that these have.

    None if there are no finished runs of single-task learning on any of the tasks.
    """
    single, tasks = comparison.single_task, _single_tasks(comparison)
    if not tasks:
        return None

    def values(scores: BySeed) -> dict[int, float]:
        return {seed: delta(one, single[seed].test, tasks) for seed, one in scores.items() if seed in single}

    def absent(seeds: tuple[int, ...]) -> str:
        return f"no single-task run to compare with for {seed_list(seeds)}"

    return ScoreColumn("Δ_m", "", "all", "delta_m", "%", "higher", values, absent)


def gain_column(task: TaskRecord, references: Mapping[int, Record], name: str) -> ScoreColumn:
    """The relative gain on a task over the reference run of the same seed."""

    def values(scores: BySeed) -> dict[int, float]:
        return {seed: task_gain(one, references[seed].test, task) for seed, one in scores.items() if seed in references}

    def absent(seeds: tuple[int, ...]) -> str:
        return f"no run of {name} to compare with for {seed_list(seeds)}"

    return ScoreColumn(task.label, "", task.key, "gain", "%", "higher", values, absent)


def _single_tasks(comparison: Comparison) -> list[TaskRecord]:
    """The tasks that have single-task networks."""
    known = {task.key for run in comparison.single_task.values() for task in run.tasks}
    return [task for task in comparison.tasks if task.key in known]


def gain_definition(comparison: Comparison) -> str:
    """What Δ_b and Δ_m are: a sentence for a caption."""
    how = "mean over the metrics of a task, then over tasks, paired by seed"
    tasks = _single_tasks(comparison)
    if not tasks:
        return f"Δ_b: relative gain over EW, {how}; no Δ_m, since there are no single-task runs."
    some = "" if len(tasks) == len(comparison.tasks) else f" (on {', '.join(task.label for task in tasks)})"
    return f"Δ_b, Δ_m: relative gain over EW and over single-task networks{some}, {how}."


def headline(comparison: Comparison) -> ScoreColumn:
    """The one number by which the methods of a comparison are ranked."""
    if comparison.selection == "gain":
        return delta_column(comparison)
    return average_column(comparison, comparison.tasks[0].metrics[0])


def finite(values: Mapping[int, float]) -> dict[int, float]:
    """The seeds whose value is a finite number."""
    return {seed: value for seed, value in values.items() if math.isfinite(value)}
