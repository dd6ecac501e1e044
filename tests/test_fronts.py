"""The front of scalarisations: which fixed weights dominate a method, and the files that show it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from record_factory import TASKS, make_record, without_drawing

from bench import report
from bench.records.record import Record, Scores
from bench.records.store import RECORD, run_folder, write_record
from bench.reporting.comparison import Comparison, comparisons
from bench.reporting.figures.fronts import front_figure
from bench.reporting.front import dominates, front_of, non_dominated, task_score
from bench.reporting.options import Options
from bench.reporting.sections import analysed, section_figures, section_tables
from bench.reporting.series import read_curves
from bench.reporting.tables.fronts import front_table
from bench.spec.run_specs import specs_of
from bench.spec.study import load_study

TASKS_OF_DIGITS = [task.key for task in TASKS["digits"]]


def with_accuracies(name: str, values: tuple[float, ...], seed: int = 0, weighting: str = "fixed") -> Record:
    scores: Scores = {task: {"accuracy": value} for task, value in zip(TASKS_OF_DIGITS, values, strict=False)}
    scores |= {task: {"accuracy": 0.5} for task in TASKS_OF_DIGITS[len(values) :]}
    overrides = {"weighting.weights": [float(len(name))]} if weighting == "fixed" else {}
    record = make_record(
        "digits", "Fixed" if weighting == "fixed" else name, seed, test=scores, weighting=weighting, overrides=overrides
    )
    return record.model_copy(update={"variant": f"fixed@{name}"}) if weighting == "fixed" else record


def compared(*records: Record) -> Comparison:
    (comparison,) = comparisons(records)
    return comparison


def test_dominance_and_the_front_agree_with_a_search_by_arrays() -> None:
    points = np.random.default_rng(3).integers(0, 6, size=(60, 3)) / 5
    better = (points[:, None] >= points[None]).all(axis=2) & (points[:, None] > points[None]).any(axis=2)
    for place, point in enumerate(points.tolist()):
        assert [dominates(other, point) for other in points.tolist()] == better[:, place].tolist()
    assert sorted(non_dominated(points.tolist())) == np.flatnonzero(~better.any(axis=0)).tolist()


def test_a_method_dominated_by_some_of_the_fixed_weights_is_told_by_how_many() -> None:
    comparison = compared(
        with_accuracies("a", (0.9, 0.2)),
        with_accuracies("bb", (0.6, 0.6)),
        with_accuracies("ccc", (0.5, 0.5)),
        with_accuracies("dddd", (0.2, 0.9)),
        with_accuracies("UW", (0.4, 0.4), weighting="uw"),
        with_accuracies("IMTL", (0.9, 0.3), weighting="imtl"),
    )
    front = front_of(comparison)
    assert front is not None and len(front.fixed) == 4 and not front.left_out
    table = front_table(comparison, front)
    cells = {row.head.text: [cell.text for cell in row.cells] for row in table.rows}
    heads = [column.head.text for column in table.columns]
    assert heads[0] == ", ".join(task.label for task in TASKS["digits"][:2]) and heads[-1] == "All tasks"
    assert len(heads) == 7  # six pairs of four tasks, and all
    assert (cells["UW"][0], cells["UW"][-1]) == ("2 of 4", "2 of 4")
    assert (cells["IMTL"][0], cells["IMTL"][-1]) == ("0 of 4", "0 of 4")
    assert "picked on test" in table.note


def test_rows_that_lack_a_seed_or_a_score_are_named() -> None:
    records = [with_accuracies(name, (0.5, 0.5), seed) for name in ("a", "bb") for seed in (0, 1)]
    records += [with_accuracies("UW", (0.4, 0.4), weighting="uw")]
    records += [with_accuracies("IMTL", (math.nan, 0.3), seed, weighting="imtl") for seed in (0, 1)]
    front = front_of(compared(*records))
    assert front is not None and front.left_out == ("UW", "IMTL") and not front.methods


def test_no_front_without_several_fixed_weights() -> None:
    assert front_of(compared(with_accuracies("a", (0.5,)), with_accuracies("UW", (0.4,), weighting="uw"))) is None


def test_the_score_of_a_dense_task_is_its_mean_log_gain() -> None:
    """Twice as good as the dummy baseline in every metric: log 2."""
    tasks = TASKS["rooms"]
    dummy = {task.key: {metric.key: 0.2 for metric in task.metrics} for task in tasks}
    factor = {"higher": 2.0, "lower": 0.5}
    test = {task.key: {m.key: 0.2 * factor[m.direction] for m in task.metrics} for task in tasks}
    record = make_record("rooms", test=test, reference=dummy)
    assert [task_score(record, task) for task in tasks] == pytest.approx([math.log(2)] * 3)


def test_a_panel_for_each_pair_with_every_point() -> None:
    comparison = compared(
        with_accuracies("a", (0.9, 0.2)),
        with_accuracies("bb", (0.6, 0.6)),
        with_accuracies("ccc", (0.5, 0.5)),
        with_accuracies("UW", (0.4, 0.4), weighting="uw"),
    )
    front = front_of(comparison)
    assert front is not None
    figure = front_figure(comparison, front)
    assert figure is not None and len(figure.axes) == 6
    first = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in figure.axes[0].lines}
    assert first["Fixed weights"] == pytest.approx(np.array([[90, 20], [60, 60], [50, 50]]))
    assert first["Their front"] == pytest.approx(np.array([[60, 60], [90, 20]]))
    assert first["UW"] == pytest.approx(np.array([[40, 40]]))


def test_reports_of_any_records_with_fixed_weights_have_the_front(tmp_path: Path) -> None:
    records = [with_accuracies(name, (0.5, 0.1 * len(name))) for name in ("a", "bb")]
    for record in [*records, with_accuracies("UW", (0.4, 0.4), weighting="uw")]:
        write_record(run_folder(tmp_path / "results", "digits", record.variant, 0), record)
    assert len(list((tmp_path / "results").rglob(RECORD))) == 3
    with without_drawing():
        assert report.main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "README.md").read_text()
    assert "digits/front.png" in page and "0 of 2" in page


def test_the_study_has_every_point_of_its_grid_once() -> None:
    """Multiples of 1/2 above 0 with sum 3: compositions of 6 into 3 parts, of which there are 5 over 2."""
    rows = [row for row in load_study("fronts").rows if row.method == "fixed"]
    weights = {tuple(row.set["weighting.weights"]) for row in rows}
    assert len(rows) == len(weights) == math.comb(5, 2)
    assert all(sum(w) == 3 and min(w) > 0 and all((2 * x).is_integer() for x in w) for w in weights)
    for row in rows:
        numbers = [part.strip().replace("½", ".5") for part in row.label.split(":")]
        (spec,) = specs_of(row, "rooms", 0)
        assert [float(number) for number in numbers] == spec.overrides.get("weighting.weights", [1.0] * 3)


def test_hidden_rows_stay_in_the_front(tmp_path: Path) -> None:
    comparison = compared(
        with_accuracies("a", (0.9, 0.2)),
        with_accuracies("bb", (0.6, 0.6)),
        with_accuracies("UW", (0.4, 0.4), weighting="uw"),
        with_accuracies("IMTL", (0.5, 0.5), weighting="imtl"),
    )
    curves = read_curves(tmp_path, comparison)
    analysis = analysed(tmp_path, comparison, curves, Options(methods=("UW",)))
    table = next(table for table in section_tables(analysis, Options()) if table.name == "front")
    assert [(row.head.text, row.cells[-1].text) for row in table.rows] == [("UW", "1 of 2")]
    figure = section_figures(tmp_path, analysis, curves, ())["front"]
    first = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in figure.axes[0].lines}
    assert first.keys() == {"Their front", "UW"}
    assert first["Their front"] == pytest.approx(np.array([[60, 60], [90, 20]]))
    nothing = analysed(tmp_path, comparison, curves, Options(exclude=("UW", "IMTL")))
    assert "front" not in {table.name for table in section_tables(nothing, Options())}
    assert "front" not in section_figures(tmp_path, nothing, curves, ())
