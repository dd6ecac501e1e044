"""Seeds of tuning trials never become seeds of reported runs, by whatever way the results come together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exchange_cases import made, printed, refused
from record_factory import write_runs

from bench.cli.request import refuse_trials
from bench.records.trial_seeds import MERGED_SEEDS, trial_seeds
from bench.records.trials import TRIALS, TUNING, TrialRun, write_trials
from bench.spec.request import PlanError, Request
from bench.spec.study import StudyRow


def trial(seed: int) -> TrialRun:
    return TrialRun("digits", "EW", "ew", "ew", 0, seed, "done", "accuracy", 0.9, 1, 1, 1, 1.0, 1)


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """Results with seed 1, and trials with seed 5."""
    write_runs(tmp_path / "tuned", [made(seed=1)])
    write_runs(tmp_path / "tuned" / TUNING, [made(seed=5)])
    write_trials(tmp_path / "tuned" / TUNING / TRIALS, [trial(5)])
    return tmp_path / "tuned"


@pytest.mark.parametrize("table", [True, False])
def test_trials_are_merged_into_trials_only(
    table: bool, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not table:
        (tuned / TUNING / TRIALS).unlink()
    message = "expected runs that are reported as in"
    assert message in refused(capsys, "merge", tuned / TUNING, "--into", tmp_path / "fresh")
    assert message in refused(capsys, "merge", tuned, tuned / TUNING, "--into", tmp_path / "fresh")
    assert "expected trials as in" in refused(capsys, "merge", tuned, tuned / TUNING, "--into", tmp_path / TUNING)
    assert not (tmp_path / "fresh").exists() and not (tmp_path / TUNING).exists()
    assert "found that of trials" in refused(capsys, "export", tmp_path / "x.zip", "--results", tuned / TUNING)


def test_merged_trials_count_by_their_folders(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, other = tmp_path / "results", tmp_path / "other"
    printed(capsys, "merge", tuned / TUNING, "--into", results / TUNING)
    write_runs(other, [made("UW", seed=5)])
    message = "a seed of its trials of tuning, found digits/uw/seed-5"
    assert message in refused(capsys, "merge", other, "--into", results)
    write_runs(results, [made("UW", seed=5)])
    assert message in refused(capsys, "check", results)
    assert message in refused(capsys, "export", tmp_path / "x.zip", "--results", results)
    with pytest.raises(PlanError, match=r"no trial of .* had, found 5"):
        refuse_trials(Request([StudyRow(method="ew")], ["digits"], [4, 5]), results)
    printed(capsys, "merge", other, "--into", tmp_path / "reported")
    error = refused(capsys, "merge", tuned / TUNING, "--into", tmp_path / "reported" / TUNING)
    assert "expected no trial with a seed of a run in" in error and "digits/ew/seed-5" in error


def test_seeds_of_merged_files_are_kept(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, other = tmp_path / "results", tmp_path / "other"
    write_runs(other, [made("UW", seed=5)])
    printed(capsys, "export", tmp_path / "a.zip", "--results", tuned)
    printed(capsys, "merge", tmp_path / "a.zip", "--into", results)
    assert trial_seeds(results) == {5}
    assert "found digits/uw/seed-5" in refused(capsys, "merge", other, "--into", results)
    assert "left out" not in printed(capsys, "check", results)
    printed(capsys, "export", tmp_path / "b.zip", "--results", results)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    printed(capsys, "merge", results, "--into", tmp_path / "third")
    assert trial_seeds(tmp_path / "third") == {5}


@pytest.mark.parametrize("text", ["[5]", '{"trial_seeds": [true]}', '{"trial_seeds": "5"}', "x"])
def test_kept_seeds_that_cannot_be_read_are_refused(text: str, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tuned / MERGED_SEEDS).write_text(text)
    error = refused(capsys, "check", tuned)
    assert MERGED_SEEDS in error and "expected" in error and len(error.splitlines()) == 1
    (tuned / MERGED_SEEDS).write_text(json.dumps({"trial_seeds": [1]}))
    assert "found digits/ew/seed-1" in refused(capsys, "check", tuned)
