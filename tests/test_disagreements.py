"""Records of one table that disagree about what no method changes: the rule, the dummy baseline, selected scores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record, make_study, without_drawing, write_runs

from bench import report
from bench.records.record import Record, Selected
from bench.records.store import RECORD, run_folder
from bench.reporting.comparison import Comparison, comparisons
from bench.reporting.options import USUAL
from bench.reporting.tables.score_columns import task_column
from bench.reporting.tables.score_rows import score_rows

RULE = "epoch selected by another rule than in other rows (seed 1)"
DUMMY = "dummy baseline differs from that of other runs on the same data (seed 1)"
SCORE = "selected score does not follow from the scores on validation as in other runs (seed 1)"


def compared(records: list[Record]) -> Comparison:
    (comparison,) = comparisons(records)
    return comparison


def notes(records: list[Record]) -> dict[str, tuple[str, ...]]:
    return {row.label: row.notes for row in compared(records).variants}


def edited(records: list[Record], place: int, **fields: Any) -> list[Record]:
    """Fields of one record replaced, as an edit of its file that is valid by itself."""
    raw = {**records[place].model_dump(mode="json"), **fields}
    return [*records[:place], Record.model_validate(raw), *records[place + 1 :]]


@pytest.fixture
def accurate() -> list[Record]:
    return make_study("digits", ("EW", "UW", "MGDA"), (0, 1))


def gains() -> list[Record]:
    """Runs whose selected scores are mean log gains over a dummy baseline with all logarithms 0.3 worse."""
    found = []
    for record in make_study("rooms", ("EW", "UW", "MGDA"), (0, 1)):
        of_tasks = []
        for task in record.tasks:
            signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.metrics}
            logs = [sign * math.log(record.test[task.key][key]) + 0.3 for key, sign in signs.items()]
            of_tasks.append(sum(logs) / len(logs))
        selected = Selected(epoch=8, rule="highest", score=sum(of_tasks) / len(of_tasks))
        found.append(record.model_copy(update={"selected": selected, "validation": record.test}))
    return found


def test_runs_that_agree_have_no_notes(accurate: list[Record]) -> None:
    assert notes(accurate) == notes(gains()) == {"EW": (), "UW": (), "MGDA": ()}


def test_another_rule_is_named(accurate: list[Record]) -> None:
    assert accurate[3].selected is not None
    other = {**accurate[3].selected.model_dump(), "rule": "highest accuracy on test"}
    assert notes(edited(accurate, 3, selected=other)) == {"EW": (), "UW": (RULE,), "MGDA": ()}


def test_single_task_networks_have_a_rule_of_their_own(accurate: list[Record]) -> None:
    selected = accurate[3].selected
    assert selected is not None
    own = selected.model_copy(update={"rule": "for each task, highest accuracy"})
    tasks = {task.key: {**own.model_dump(), "score": 0.5} for task in accurate[3].tasks}
    fields = {
        "selected": {**own.model_dump(), "score": 0.5},
        "selected_by_task": tasks,
        "validation": {task.key: {"accuracy": 0.5} for task in accurate[3].tasks},
    }
    assert notes(edited(accurate, 3, **fields))["UW"] == ()


def test_another_dummy_baseline_is_named_and_not_shown(accurate: list[Record]) -> None:
    other = {task: {"accuracy": 0.9} for task in accurate[0].reference}
    for place in (0, 3):
        records = edited(accurate, place, reference=other)
        expected = {row: () for row in ("EW", "UW", "MGDA")}
        row, seed = (("EW", 0), ("UW", 1))[place == 3]
        assert notes(records) == {**expected, row: (DUMMY.replace("seed 1", f"seed {seed}"),)}
        assert compared(records).dummies == compared(accurate).dummies


def test_with_partitions_of_their_own_seeds_have_dummy_baselines_of_their_own() -> None:
    records = [
        make_record("digits", method, seed, settings={"data": {"split_per_seed": True}}, reference=dummy)
        for method in ("EW", "UW")
        for seed, dummy in enumerate(
            [{task: {"accuracy": share} for task in ("plain", "colour")} for share in (0.1, 0.2)]
        )
    ]
    comparison = compared(records)
    assert notes(records) == {"EW": (), "UW": ()}
    task = comparison.tasks[0]
    column = task_column(task, task.metrics[0], "Accuracy", "")
    assert score_rows(comparison, [column], USUAL)[-1].cells[0].text == "15.00 ± 7.07"


def test_a_selected_log_gain_that_validation_does_not_give_is_named() -> None:
    records = gains()
    selected = records[3].selected
    assert selected is not None
    better = {**selected.model_dump(), "score": selected.score + 0.001}
    assert notes(edited(records, 3, selected=better)) == {"EW": (), "UW": (SCORE,), "MGDA": ()}


def test_an_edited_number_of_epochs_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "results", make_study("digits", ("EW", "UW"), (0,)))
    record = run_folder(tmp_path / "results", "digits", "uw", 0) / RECORD
    record.write_text(json.dumps({**json.loads(record.read_text()), "epochs": 11}))
    with without_drawing():
        assert report.main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(record) in line and "epochs: expected 10, as settings.train.epochs says, found 11" in line
