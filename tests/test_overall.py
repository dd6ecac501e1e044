"""The score that rows are compared by."""

from __future__ import annotations

import math
import random

import pytest
from record_factory import TASKS, make_record, make_study

from bench.engine.selection import selection_score
from bench.records.record import Record
from bench.reporting import overall
from datasets import DATASETS
from datasets.contract import DatasetInfo


def random_record(info: DatasetInfo, seed: int) -> Record:
    """Scores of an actual problem, drawn at random; some fractions are 0."""
    draw = random.Random(seed)
    tasks = [
        {
            "key": task.key,
            "label": task.label,
            "metrics": [
                {"key": m.key, "label": m.label, "direction": m.direction, "unit": m.unit} for m in task.measure.metrics
            ],
        }
        for task in info.tasks
    ]
    scores = [
        {
            task["key"]: {m["key"]: draw.choice((0.0, draw.random(), draw.random())) for m in task["metrics"]}
            for task in tasks
        }
        for _ in range(2)
    ]
    order = {"data": 0, "method": 0}
    return make_record(
        "digits", seed=seed, test=scores[0], reference=scores[1], validation={}, last_test={}, tasks=tasks,
        selection=info.selection, order=order,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(DATASETS))
def test_it_is_the_score_that_selects_epochs_computed_on_test(name: str) -> None:
    for seed in range(5):
        record = random_record(DATASETS[name], seed)
        expected = selection_score(DATASETS[name], record.test, record.reference)
        assert overall.test_score(record) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_difference_of_two_runs_is_a_mean_of_log_ratios() -> None:
    first, second = make_study("rooms", ("EW", "NORMAL"), (0,))
    ratios = []
    for task in TASKS["rooms"]:
        signs = [1 if m.direction == "higher" else -1 for m in task.metrics]
        changes = [math.log(second.test[task.key][m.key] / first.test[task.key][m.key]) for m in task.metrics]
        own = [sign * change for sign, change in zip(signs, changes, strict=True)]
        ratios.append(sum(own) / len(own))
    difference = overall.test_score(second) - overall.test_score(first)
    assert difference == pytest.approx(sum(ratios) / len(ratios), rel=1e-9)


def test_it_is_nan_where_a_score_is_nan_or_the_dummy_baseline_was_not_recorded() -> None:
    record = make_record("digits")
    record.test["plain"]["accuracy"] = math.nan
    assert math.isnan(overall.test_score(record))
    assert math.isnan(overall.test_score(make_record("rooms")))
