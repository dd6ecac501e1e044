"""What the figures of a report show: the right numbers, in a legible order."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure
from record_factory import ROOMS, make_record, make_study, write_runs

from bench.records.record import Timing
from bench.records.store import COSINES, CURVE, run_folder
from bench.records.tables import NumberTable
from bench.reporting.across import across_problems
from bench.reporting.comparison import Comparison, comparisons
from bench.reporting.figures.cost import cost_figure
from bench.reporting.figures.gains import gains_figure, task_gains
from bench.reporting.figures.intervals import Span, spans_figure
from bench.reporting.figures.lines import MOST_LINES
from bench.reporting.figures.problems import problems_figure
from bench.reporting.figures.scores import scores_figure
from bench.reporting.figures.training import (
    agreement_figure,
    curves_figure,
    legible_rows,
    positions_figure,
    task_curves_figure,
    weights_figure,
)
from bench.reporting.logged import agreement_bands, score_bands, task_bands, weight_bands
from bench.reporting.overall import by_score, score_matrix
from bench.reporting.sections import analysed
from bench.reporting.series import Band, bands, read_curves
from bench.reporting.statistics import delta


def study(data: str = "digits", seeds: tuple[int, ...] = (0, 1, 2)) -> Comparison:
    (comparison,) = comparisons(make_study(data, seeds=seeds))
    return comparison


def many_rows(data: str = "digits", rows: int = 12) -> Comparison:
    """EW and rows with other learning rates, which score the better the later they come."""
    made = [make_record(data, "EW", 0)]
    for place in range(1, rows):
        record = make_record(data, "EW", 0, variant=f"ew@{place}", overrides={"train.lr": place / 100})
        test = {task: {name: 1.001**place * value for name, value in of.items()} for task, of in record.test.items()}
        made.append(record.model_copy(update={"test": test}))
    (comparison,) = comparisons(made)
    return comparison


def row_names(figure: Figure | None, axes: int = 0) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.axes[axes].get_yticklabels()]


def test_rows_are_in_the_order_of_their_scores() -> None:
    comparison = study()
    ordered = by_score(comparison, comparison.variants)
    means = score_matrix(ordered, comparison.seeds).mean(axis=1)
    assert (np.diff(means) <= 0).all() and {v.key for v in ordered} == {v.key for v in comparison.variants}
    assert row_names(scores_figure(comparison)) == [variant.label for variant in ordered]
    assert row_names(gains_figure(comparison)) == [variant.label for variant in ordered]
    spans = [Span("low", 0, -1, -2, 0.5), Span("high", 1, 3, 2, 4), Span("middle", 2, 0, -1, 1)]
    assert row_names(spans_figure(spans, "x")) == ["high", "middle", "low"]


@pytest.mark.parametrize("data", ["digits", "rooms"])
def test_the_gains_of_tasks_average_to_delta(data: str) -> None:
    comparison = study(data)
    baseline = comparison.baseline
    assert baseline is not None
    gains = task_gains(comparison, comparison.variants, baseline.scored)
    for row, variant in zip(gains, comparison.variants, strict=True):
        deltas = [delta(run.test, baseline.scored[seed].test, comparison.tasks) for seed, run in variant.scored.items()]
        assert row.mean() == pytest.approx(100 * np.mean(deltas))
    few = task_gains(comparison, comparison.variants, {0: baseline.scored[0], 7: baseline.scored[1]})
    assert np.isfinite(few).all() and np.isnan(task_gains(comparison, comparison.variants, {})).all()


def table_of(columns: dict[str, list[float]]) -> NumberTable:
    return NumberTable(tuple(columns), np.array(list(columns.values()), dtype=np.float64).T)


def test_bands_are_over_the_seeds_at_the_places_that_all_have() -> None:
    one = table_of({"epoch": [1, 2, 3, 4], "a": [1, 2, 3, 4], "b": [1, math.nan, 1, 1]})
    other = table_of({"epoch": [4, 2, 3], "a": [8, 4, 6], "b": [3, 3, 3]})
    none = table_of({"epoch": [], "a": [], "b": []})
    found = bands({0: one, 1: other}, "epoch", ["a", "b", "c"])
    assert set(found) == {"a", "b"}
    assert found["a"].x.tolist() == [2, 3, 4] and found["a"].mean.tolist() == [3, 4.5, 6]
    assert found["a"].low.tolist() == [2, 3, 4] and found["a"].high.tolist() == [4, 6, 8]
    assert found["b"].x.tolist() == [3, 4] and found["b"].mean.tolist() == [2, 2]
    assert bands({}, "epoch", ["a"]) == {} == bands({0: one, 1: none}, "epoch", ["a"])


def curves_of(comparison: Comparison) -> dict[str, Band]:
    x = np.arange(1.0, 9.0)
    lines = {variant.key: place + 1 - 0.5**x for place, variant in enumerate(comparison.variants)}
    return {key: Band(x, line, line, line) for key, line in lines.items()}


def test_many_curves_have_a_panel_each_beside_ew() -> None:
    few, many = study(), many_rows()
    figure = curves_figure(few, curves_of(few))
    assert figure is not None and len(figure.axes) == 1
    assert len({line.get_marker() for line in figure.axes[0].lines}) == len(few.variants)
    figure = curves_figure(many, curves_of(many))
    assert figure is not None and len(figure.axes) == 11
    for place, axes in enumerate(figure.axes, 1):
        grey, own = axes.lines
        assert np.allclose(np.asarray(grey.get_ydata(), dtype=float) + 100 * place, np.asarray(own.get_ydata()))
    # The axis spans the means after the first quarter of the epochs.
    lowest, highest = 100 * (1 - 0.5**2), 100 * (12 - 0.5**8)
    room = 0.1 * (highest - lowest)
    assert figure.axes[0].get_ylim() == pytest.approx((lowest - room, highest + room))


def test_at_most_nine_rows_share_a_panel_ew_and_the_best() -> None:
    comparison = many_rows()
    rows = legible_rows(comparison, {variant.key for variant in comparison.variants})
    assert [row.key for row in rows] == ["ew", *(f"ew@{place}" for place in range(11, 3, -1))]
    band = curves_of(comparison)
    figure = task_curves_figure(comparison, {task.key: band for task in comparison.tasks})
    assert figure is not None and len(figure.axes) == 4
    assert [line.get_label() for line in figure.axes[0].lines] == [row.label for row in rows]


def test_tasks_with_other_metrics_have_axes_of_their_own(tmp_path: Path) -> None:
    comparison = study("rooms")
    x = np.arange(1.0, 5.0)
    found = {task.key: {"ew": Band(x, 7.0**place * x, x, x)} for place, task in enumerate(ROOMS)}
    figure = task_curves_figure(comparison, found)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == [
        "Segmentation: miou (%)",
        "Depth: abserr (m)",
        "Normal: mean (°)",
    ]
    assert len({axes.get_ylim() for axes in figure.axes}) == 3


def write_table(folder: Path, name: str, table: dict[str, list[float]]) -> None:
    pandas.DataFrame(table).to_csv(folder / name, index=False)


def test_weights_are_shown_over_their_mean_where_they_change(tmp_path: Path) -> None:
    records = [make_record("digits", method, epochs=2) for method in ("EW", "UW", "MGDA")]
    write_runs(tmp_path, records)
    (comparison,) = comparisons(records)
    keys = [task.key for task in comparison.tasks]
    for record, later in zip(records, (1.0, 3.0, 1.0), strict=True):
        table = {"epoch": [1.0, 2.0], "step": [1.0, 2.0], "seconds": [1.0, 2.0], "score": [0.1, 0.9]}
        assert record.selected is not None
        table["score"][record.selected.epoch - 1] = record.selected.score
        table |= {f"weight/{key}": [2.0 + place, 2.0 + place] for place, key in enumerate(keys)}
        table[f"weight/{keys[0]}"] = [2.0, 2.0 * later]
        write_table(run_folder(tmp_path, "digits", record.variant, 0), CURVE, table)
    found = weight_bands(comparison, read_curves(tmp_path, comparison))
    assert set(found) == {"uw"}
    shares = np.array([found["uw"][key].mean for key in keys])
    assert np.allclose(shares.mean(axis=0), 1) and np.allclose(shares[:, 0], np.array([2, 3, 4, 5]) / 3.5)
    figure = weights_figure(comparison, found)
    assert figure is not None and [axes.get_title() for axes in figure.axes] == ["UW"]
    assert weights_figure(comparison, {}) is None


def test_a_task_looks_the_same_in_all_figures() -> None:
    comparison = study("faces", (0,))
    line, keys = np.array([0.0, 1.0]), [task.key for task in comparison.tasks]
    rising = {key: Band(line, line * place, line, line) for place, key in enumerate(keys)}
    falling = {key: Band(line, -line * place % 7, line, line) for place, key in enumerate(keys)}
    looks: dict[str, set[str]] = {}
    for figure in (positions_figure(comparison, rising, keys), positions_figure(comparison, falling)):
        assert figure is not None
        for drawn in figure.axes[0].lines:
            look = f"{drawn.get_color()} {drawn._dash_pattern} {drawn.get_marker()}"  # type: ignore[attr-defined]
            looks.setdefault(str(drawn.get_label()), set()).add(look)
    weights = weights_figure(comparison, {"uw": falling})
    assert weights is not None
    assert len({line.get_color() for line in weights.legends[0].get_lines()}) == MOST_LINES
    for text, drawn in zip(weights.legends[0].get_texts(), weights.legends[0].get_lines(), strict=True):
        assert looks[text.get_text()] == {f"{drawn.get_color()} {drawn._dash_pattern} {drawn.get_marker()}"}  # type: ignore[attr-defined]
    assert len(looks) == len(set().union(*looks.values())) == len(keys)


def test_points_of_rows_differ_without_colour() -> None:
    (comparison,) = comparisons(
        [make_record(variant=f"ew@{place}", overrides={"train.lr": place / 100}) for place in range(20)]
    )
    figure = cost_figure(comparison)
    assert figure is not None
    looks = {(line.get_marker(), line.get_fillstyle()) for line in figure.axes[0].lines}
    assert len(looks) == len(figure.axes[0].lines) == 20


def test_the_agreement_of_gradients_is_a_mean_over_pairs(tmp_path: Path) -> None:
    records = [make_record("digits", "EW"), make_record("digits", "UW")]
    write_runs(tmp_path, records)
    pairs = {"a|b": [0.5, 0.5], "a|c": [-0.1, 0.1], "b|c": [-0.7, math.nan]}
    write_table(run_folder(tmp_path, "digits", "ew", 0), COSINES, {"step": [1.0, 6.0], **pairs})
    (comparison,) = comparisons(records)
    cosines, conflicts = agreement_bands(tmp_path, comparison)
    assert set(cosines) == set(conflicts) == {"ew"}
    assert cosines["ew"].x.tolist() == [1, 6] and cosines["ew"].mean == pytest.approx([-0.1, 0.3])
    assert conflicts["ew"].mean == pytest.approx([2 / 3, 0])
    figure = agreement_figure(comparison, cosines, conflicts)
    assert figure is not None and len(figure.axes) == 2
    assert agreement_figure(comparison, {}, {}) is None


def test_cost_is_drawn_of_rows_that_measured_it() -> None:
    seconds = Timing(median=0.02, mean=0.02, steps=90, warmup=10)
    records = [make_record("digits", method, step_seconds=seconds) for method in ("EW", "UW", "MGDA")]
    records[1] = records[1].model_copy(update={"peak_memory_mib": 100.0})
    (comparison,) = comparisons([records[0].model_copy(update={"step_seconds": None}), *records[1:]])
    figure = cost_figure(comparison)
    assert figure is not None
    shown = {axes.get_xlabel(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    assert shown["Median step (ms)"] == ["UW", "MGDA"] and shown["Memory of the whole process (MiB)"] == ["UW"]
    assert float(np.asarray(figure.axes[0].lines[0].get_xdata())[0]) == 20


def test_problems_are_side_by_side_the_best_rank_first(tmp_path: Path) -> None:
    records = [record for data in ("digits", "rooms") for record in make_study(data, seeds=tuple(range(6)))]
    write_runs(tmp_path, records)
    analyses = [analysed(tmp_path, one, read_curves(tmp_path, one)) for one in comparisons(records)]
    (across,) = across_problems(analyses)
    figure = problems_figure(across)
    assert figure is not None and [axes.get_title() for axes in figure.axes] == ["Mean rank", "Digits", "Rooms"]
    ranks = {label: found.rank.value for label, found in across.ranks.items() if found.rank}
    assert row_names(figure) == sorted(ranks, key=ranks.__getitem__)
    # EW is the line at 0, every other row has a dot.
    assert [len(found.get_offsets()) for found in figure.axes[1].collections[1:]] == [len(ranks) - 1]


def test_curves_of_records_are_read_once_for_all(tmp_path: Path) -> None:
    records = make_study("digits", ("EW", "NORMAL"), (0, 1))
    write_runs(tmp_path, records)
    (comparison,) = comparisons(records)
    curves = read_curves(tmp_path, comparison)
    assert {key: set(of) for key, of in curves.items()} == {"ew": {0, 1}, "normal": {0, 1}}
    assert set(score_bands(comparison, curves)) == {"ew", "normal"}
    assert set(task_bands(comparison, curves)) <= {task.key for task in comparison.tasks}
