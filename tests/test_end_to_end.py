"""The whole chain on the embedded problems: command, workers, records, tables; and that methods learn."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from bench import report, run
from bench.records.record import Record
from bench.records.store import read_records
from bench.spec.study import load_study
from methods import METHODS

NINE = load_study("embedded").methods
FACES_EPOCHS = "4"


@pytest.fixture(scope="session")
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


@pytest.mark.parametrize("method", NINE)
def test_every_method_learns_digits(method: str, results: Path) -> None:
    record = the_run(results, "digits", method)
    assert mean_accuracy(record.reference) < 0.11
    assert mean_accuracy(record.test) > 0.6
    assert min(task["accuracy"] for task in record.test.values()) > 0.4  # no domain is given up


@pytest.mark.parametrize("method", NINE)
def test_every_method_learns_faces(method: str, results: Path) -> None:
    record = the_run(results, "faces", method)
    assert mean_accuracy(record.test) > mean_accuracy(record.reference) + 0.04


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


def test_normal_moves_its_positions(results: Path) -> None:
    record = the_run(results, "digits", "normal")
    assert all(abs(position - 1.0) > 0.05 for position in record.positions.values())


def test_the_tables_show_every_run(results: Path, tmp_path: Path) -> None:
    assert report.main(["--results", str(results), "--out", str(tmp_path)]) == 0
    index = (tmp_path / "README.md").read_text(encoding="utf-8")
    latex = (tmp_path / "digits" / "scores.tex").read_text(encoding="utf-8")
    rows = {line.split("&")[0].strip() for line in latex.splitlines() if "&" in line}
    for method in (METHODS[name] for name in NINE):
        assert f"| {method.label} |" in index and method.label in rows
    for name in ("digits", "rooms", "faces"):
        for ending in ("tex", "md", "csv", "pdf", "png"):
            assert (tmp_path / name / f"scores.{ending}").stat().st_size > 100
    assert (tmp_path / "digits" / "positions-normal.png").exists()
