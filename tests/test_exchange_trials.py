"""Seeds of tuning trials never become seeds of reported runs, by whatever way the results come together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_trees import write_digits
from exchange_cases import made, printed, refused, write_runs
from record_factory import without_drawing

from bench import report
from bench.cli.request import refuse_trials
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.exchange.archive import write_archive
from bench.exchange.finding import find_shared
from bench.records.store import run_folder
from bench.records.trial_seeds import MERGED_SEEDS, trial_seeds
from bench.records.trials import TRIALS, TUNING, TrialRun, write_trials
from bench.spec.planning import make_plan
from bench.spec.request import PlanError, Request
from bench.spec.resolve import resolve
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


def test_a_trial_says_so_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a copy of unfinished tuning under another name, which has no table."""
    copy, mixed, reported = tmp_path / "copy", tmp_path / "mixed", tmp_path / "reported"
    write_runs(copy, [made(seed=5, trial=True)])
    write_runs(mixed, [made(seed=5, trial=True), made("UW", 6)])
    write_runs(reported, [made(seed=1)])
    for into in (reported, tmp_path / "fresh"):
        assert "expected runs that are reported as in" in refused(capsys, "merge", copy, "--into", into)
        assert "found trials of `bench.tune` among them: digits/ew/seed-5" in refused(
            capsys, "merge", mixed, "--into", into
        )
    assert "found that of trials" in refused(capsys, "export", tmp_path / "x.zip", "--results", copy)
    assert "among them: digits/ew/seed-5" in refused(capsys, "check", mixed)
    assert "expected trials as in" in refused(capsys, "merge", reported, "--into", copy)
    printed(capsys, "merge", copy, "--into", tmp_path / TUNING)
    write_archive(tmp_path / "y.zip", find_shared(copy).runs)
    assert "found trials of `bench.tune`; don't use this file" in refused(capsys, "check", tmp_path / "y.zip")


def test_reports_refuse_trials_among_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "mixed", [made(seed=5, trial=True), made("UW", 6)])
    write_runs(tmp_path / "copy", [made(seed=5, trial=True)])
    assert report.main(["--results", str(tmp_path / "mixed"), "--out", str(tmp_path / "out")]) == 2
    assert "among them: digits/ew/seed-5" in capsys.readouterr().err and not (tmp_path / "out").exists()
    with without_drawing():
        assert report.main(["--results", str(tmp_path / "copy"), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0
    assert "All runs are trials" in capsys.readouterr().out


def test_a_trial_is_never_kept_as_a_run(tmp_path: Path) -> None:
    """For real: the run is trained as a trial."""
    data = write_digits(tmp_path)
    spec = resolve("digits", "ew", seed=5, assignments={"train.epochs": 1, "train.batch_size": 8})
    folder = run_folder(tmp_path / "results", *spec.key)
    folder.mkdir(parents=True)
    context = RunContext(data, folder, torch.device("cpu"), 1, trial=True)
    assert train(spec, context, lambda epochs: None).trial
    row = StudyRow(method="ew", set={"train.epochs": 1, "train.batch_size": 8})
    request = Request([row], ["digits"], [5], trials=True)
    assert len(make_plan(request, tmp_path, tmp_path / "results", make_data=False).kept) == 1
    with pytest.raises(PlanError, match="expected a run that is reported, found a trial of"):
        make_plan(replace(request, trials=False), tmp_path, tmp_path / "results", make_data=False)


@pytest.mark.parametrize("way", [".", "link", "link/../tuning"])
def test_a_folder_of_trials_is_known_by_any_path(
    way: str, tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So no trial with a seed of the runs around it gets in, and no such run."""
    (tuned / TUNING / TRIALS).unlink()
    write_runs(tuned.parent / "more" / TUNING, [made("UW", seed=1)])
    write_runs(tuned.parent / "other", [made("UW", seed=7)])
    (tuned.parent / "link").symlink_to(tuned / TUNING)
    monkeypatch.chdir(tuned / TUNING if way == "." else tuned.parent)
    into = Path(way)
    assert "expected trials as in" in refused(capsys, "merge", tuned.parent / "other", "--into", into)
    error = refused(capsys, "merge", tuned.parent / "more" / TUNING, "--into", into)
    assert "expected no trial with a seed of a run in" in error
    with pytest.raises(PlanError, match="found that of trials"):
        refuse_trials(Request([StudyRow(method="ew")], ["digits"], [4]), into)


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
