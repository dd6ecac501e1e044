"""The whole chain on the embedded problems: command, workers, records, tables; and that methods learn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import report, run
from bench.records.all_records import read_records
from bench.records.record import Record
from bench.spec.study import load_study
from methods import METHODS

NINE = load_study("embedded").methods
FACES_EPOCHS = "4"


def test_nine_methods_from_the_command_to_the_tables(data_root: Path, tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "reports"
    common = ["--results", str(results), "--data-root", str(data_root)]
    few = ["--epochs", "6", "--set", "data.train_share=0.25"]
    assert run.main(["--method", *NINE, "--data", "digits", *few, "--seeds", "0", *common]) == 0
    for method in NINE:
        record = the_run(results, "digits", method)
        assert mean_accuracy(record.test) > mean_accuracy(record.reference) + 0.03, method
    assert_tables(results, out, ["digits"])


@pytest.fixture(scope="module")
def results(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed: the nine of the default study on digits (in full) and faces (shortened), EW on rooms (in full)."""
    folder = tmp_path_factory.mktemp("results")
    common = ["--seeds", "0", "--device", "cpu", "--results", str(folder), "--data-root", str(data_root)]
    assert run.main(["--method", *NINE, "--data", "digits", *common]) == 0
    assert run.main(["--method", *NINE, "--data", "faces", "--epochs", FACES_EPOCHS, *common]) == 0
    assert run.main(["--method", "ew", "--data", "rooms", *common]) == 0
    return folder


def the_run(results: Path, data: str, method: str) -> Record:
    (record,) = [r for r in read_records(results) if (r.data, r.method) == (data, method)]
    assert record.status == "done", record.reason
    return record


def mean_accuracy(scores: dict[str, dict[str, float]]) -> float:
    return statistics.fmean(task["accuracy"] for task in scores.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", NINE)
def test_every_method_learns_digits(method: str, results: Path) -> None:
    record = the_run(results, "digits", method)
    assert mean_accuracy(record.reference) < 0.11
    assert mean_accuracy(record.test) > 0.6
    assert min(task["accuracy"] for task in record.test.values()) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("method", NINE)
def test_every_method_learns_faces(method: str, results: Path) -> None:
    record = the_run(results, "faces", method)
    assert mean_accuracy(record.test) > mean_accuracy(record.reference) + 0.04


@pytest.mark.slow
def test_ew_beats_the_training_mean_on_every_metric_of_rooms(results: Path) -> None:
    record = the_run(results, "rooms", "ew")
    least = {
        "miou": 4.0,
        "pixel_accuracy": 1.3,
        "absolute_error": 0.85,
        "relative_error": 0.85,
        "mean_angle": 0.8,
        "median_angle": 0.6,
        "within_11.25": 2.0,
        "within_22.5": 1.3,
        "within_30": 1.2,
    }
    for task in record.tasks:
        for metric in task.metrics:
            ratio = record.test[task.key][metric.key] / record.reference[task.key][metric.key]
            bound = least[metric.key]
            assert ratio > bound if metric.direction == "higher" else ratio < bound, (metric.key, ratio)


@pytest.mark.slow
def test_normal_moves_its_positions(results: Path) -> None:
    record = the_run(results, "digits", "normal")
    assert all(abs(position - 1.0) > 0.05 for position in record.positions.values())


@pytest.mark.slow
def test_the_tables_show_every_run(results: Path, tmp_path: Path) -> None:
    assert_tables(results, tmp_path, ["digits", "rooms", "faces"])


def assert_tables(results: Path, out: Path, data: Sequence[str]) -> None:
    """Reports show every method, and have every kind of file for each data set."""
    assert report.main(["--results", str(results), "--out", str(out)]) == 0
    index = (out / "README.md").read_text(encoding="utf-8")
    latex = (out / "digits" / "scores.tex").read_text(encoding="utf-8")
    rows = {line.split("&")[0].strip() for line in latex.splitlines() if "&" in line}
    for method in (METHODS[name] for name in NINE):
        assert f"| {method.label} |" in index and method.label in rows
    for name in data:
        for ending in ("tex", "md", "csv", "pdf", "png"):
            assert (out / name / f"scores.{ending}").stat().st_size > 100
    assert list((out / "digits").glob("positions-normal*.png"))
