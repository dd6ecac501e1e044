"""Δ_b against the paper's own column, and its rules in closed form."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

import bench.reporting
from bench.records.record import MetricRecord, Scores, TaskRecord
from bench.reporting.statistics import delta, deviation, mean, relative_gain

PAPER = Path(bench.reporting.__file__).parent / "paper"
LOWER = {"AbsErr", "RelErr", "Mean", "Median"}


def published_rows() -> list[dict[str, str]]:
    with (PAPER / "table2_nyuv2.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def published_tasks() -> list[TaskRecord]:
    names = [name.split("/") for name in published_rows()[0] if "/" in name]
    return [
        TaskRecord(
            key=task,
            label=task,
            metrics=[
                MetricRecord(key=name, label=name, direction="lower" if name in LOWER else "higher", unit="")
                for owner, name in names
                if owner == task
            ],
        )
        for task in dict.fromkeys(task for task, _ in names)
    ]


def published_scores(row: dict[str, str]) -> Scores:
    return {task.key: {m.key: float(row[f"{task.key}/{m.key}"]) for m in task.metrics} for task in published_tasks()}


def test_gives_the_column_that_the_paper_printed() -> None:
    rows = published_rows()
    for row in rows:
        found = 100 * delta(published_scores(row), published_scores(rows[0]), published_tasks())
        assert found == pytest.approx(float(row["delta_percent"]), abs=0.015), row["method"]


def test_averages_within_a_task_before_it_averages_over_tasks() -> None:
    tasks = published_tasks()  # 2, 2 and 5 metrics
    baseline = {task.key: {m.key: 1.0 for m in task.metrics} for task in tasks}
    scores = {**baseline, "segmentation": {"mIoU": 1.3, "PixAcc": 1.0}}
    assert delta(scores, baseline, tasks) == pytest.approx(0.3 / 2 / 3)


def test_lower_is_a_gain_where_lower_is_better() -> None:
    assert relative_gain(0.9, 1.0, "lower") == pytest.approx(0.1)
    assert relative_gain(0.9, 1.0, "higher") == pytest.approx(-0.1)


def test_gain_is_undefined_for_a_zero_baseline_and_for_values_that_are_not_finite() -> None:
    for value, baseline in ((1.0, 0.0), (math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)):
        assert math.isnan(relative_gain(value, baseline, "higher")), (value, baseline)


def test_delta_is_undefined_if_a_metric_is_missing() -> None:
    tasks = published_tasks()
    scores = published_scores(published_rows()[0])
    assert math.isnan(delta({**scores, "depth": {}}, scores, tasks))


def test_deviation_divides_by_n_minus_1() -> None:
    assert deviation([0.1, 0.2, 0.3]) == pytest.approx(0.1)
    assert deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(math.sqrt(32 / 7))
    assert deviation([0.5]) is None


def test_the_mean_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        mean([])
