"""bench.control: its statistics against scipy and by hand, and the page of two real runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench import ROOT, control, run
from bench.analyses.control.measures import Interval, late_movement, order_agreement, paired, read_positions, t_interval
from bench.analyses.control.page import ControlRow, ControlTable, Order, control_page, shown
from bench.records.record import Record
from bench.records.store import read_run
from bench.spec.study import load_study
from datasets.embedded.flowtimes import ONE_TIME, TIMES


def test_intervals_are_those_of_students_t() -> None:
    values = [79.0, 81.5, 80.2, 77.9]
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert np.allclose([found.mean, found.low, found.high], [np.mean(values), low, high]) and found.n == 4
    assert t_interval([3.0]).mean == 3 and np.isnan(t_interval([3.0]).low)


def test_differences_are_paired_by_seed() -> None:
    assert paired({1: 5.0, 2: 7.0, 3: 0.0}, {1: 4.0, 2: 6.0, 4: 9.0}) == Interval(1.0, 1.0, 1.0, 2)
    assert paired({1: 5.0}, {2: 4.0}) is None


def test_the_order_of_positions_up_to_reversal() -> None:
    assert order_agreement(TIMES, TIMES) == pytest.approx(1)
    assert order_agreement([2 - time for time in TIMES], TIMES) == pytest.approx(-1)
    # One swap of neighbours among six: 1 − 6 · 2 / (6 · 35).
    assert order_agreement([1, 2, 3, 4, 6, 5], [1, 2, 3, 4, 5, 6]) == pytest.approx(1 - 12 / 210)


def test_late_movement_is_that_of_the_last_fifth() -> None:
    path = np.stack([np.linspace(0, 99, 100), -2 * np.linspace(0, 99, 100)], axis=1)
    assert late_movement(path) == pytest.approx((19 + 38) / 2)
    assert late_movement(path[:1]) == 0


def test_numbers_are_shown_with_their_interval() -> None:
    assert shown(t_interval([1.0, 3.0]), "+") == "+2.0 [-10.7, +14.7]"
    assert shown(t_interval([2.0])) == "2.0" and shown(None) == "--"


def test_the_page_says_what_it_is_and_names_missing_runs() -> None:
    rows = [ControlRow("NORMAL", {1: 80.0, 2: 82.0}, {1: 0.1, 2: 0.3}), ControlRow("Other", {}, {})]
    page = control_page([ControlTable("T", rows, "NORMAL")], TIMES, [Order(1, [1, 2, 3, 4, 5, 6], 1.0)])
    assert "a sanity check, not evidence" in page
    assert "| Other | -- | -- | 0 | -- |" in page and "| 2 | 0.200 |" in page
    assert "| 1 | 1.00 | 2.00 | 3.00 | 4.00 | 5.00 | 6.00 | 1.00 |" in page


def test_the_study_has_the_times_of_the_data() -> None:
    rows = {row.label: row for row in load_study("flowtimes").rows}
    assert rows["Constant true times"].set["arch.initial_positions"] == list(TIMES)
    assert np.mean(TIMES) == ONE_TIME[0] and len(TIMES) == len(ONE_TIME)
    assert not set(load_study("flowtimes").seeds) & {0, 1, 2}


def test_the_page_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    assert control.main(["--results", str(results), "--out", str(out)]) == 2
    assert "found none" in capsys.readouterr().err
    places = ["--data-root", str(tmp_path / "data"), "--results", str(results), "--jobs", "1"]
    chosen = ["--method", "normal", "--data", "flowtimes", "--seeds", "10"]
    assert run.main([*chosen, *places, "--set", "data.split_per_seed=true", "train.epochs=1"]) == 0
    (folder,) = (results / "flowtimes").glob("*/seed-10")
    record = read_run(folder)
    assert isinstance(record, Record)
    assert read_positions(folder / "positions.csv").shape == (10, 6)
    assert control.order_of(record).positions == [
        record.positions[key] for key in ("t0_5", "t1", "t1_5", "t2", "t2_5", "t3")
    ]
    # The study has another number of epochs, so its page doesn't count this run.
    assert control.main(["--results", str(results), "--out", str(out)]) == 2


def test_the_page_and_the_docs_show_the_committed_records(tmp_path: Path) -> None:
    assert control.main(["--out", str(tmp_path)]) == 0
    page = (tmp_path / "control.md").read_text(encoding="utf-8")
    assert page == (ROOT / "reports" / "flowtimes" / "control.md").read_text(encoding="utf-8")
    docs = (ROOT / "docs" / "normal.md").read_text(encoding="utf-8")
    assert all(line in docs for line in page.splitlines() if line.startswith("|"))
