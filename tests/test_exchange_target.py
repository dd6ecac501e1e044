"""bench.runs merge: what the folder of results must be, one merge at a time, and what is said when one ends early."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_cases import contents, made, printed, refused, write_runs
from record_factory import make_unfinished

from bench.exchange import copying
from bench.records.all_records import read_records
from bench.records.folder_lock import only_writer
from bench.records.store import CHECKPOINT, ERROR_LOG, run_folder, write_record
from bench.records.trial_seeds import MERGED_SEEDS


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The results of another machine: EW and UW with seed 0."""
    write_runs(tmp_path / "there", [made(), made("UW")])
    return tmp_path / "there"


def test_one_merge_at_a_time(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "into"
    with only_writer(into, "x"):
        error = refused(capsys, "merge", there, "--into", into)
        assert error.startswith(f"{into}: expected no other merge into it, found one") and error.count("\n") == 1
        printed(capsys, "merge", there, "--into", into, "--dry-run")
    assert not into.exists()
    printed(capsys, "merge", there, "--into", into)


def test_two_merges_at_once_never_mix(there: Path, tmp_path: Path) -> None:
    """Two processes, with runs of two versions of the engine and two seeds of trials: only one adds its runs."""
    other, into = tmp_path / "other", tmp_path / "into"
    write_runs(other, [made(seed=seed, versions={"engine": 2}) for seed in range(1, 4)])
    for source, seed in ((there, 8), (other, 9)):
        (source / MERGED_SEEDS).write_text(f'{{"trial_seeds": [{seed}]}}\n')
    children = []
    for source in (there, other):
        if not (child := os.fork()):
            from bench import runs  # the child's own

            os._exit(runs.main(["merge", str(source), "--into", str(into)]))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 2]
    assert contents(into) == contents((there, other)[codes.index(0)])


def test_an_empty_folder_is_removed_only_if_it_was_made(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder(there, "digits", "ew", 0) / "record.json").write_text("{")
    (tmp_path / "empty").mkdir()
    refused(capsys, "merge", there, "--into", tmp_path / "empty")
    refused(capsys, "merge", there, "--into", tmp_path / "a" / "b")
    assert (tmp_path / "empty").is_dir() and not (tmp_path / "a").exists()


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (lambda into: into.write_text("x"), "into: expected a folder of results, found a file"),
    "a link": (lambda into: into.symlink_to("nowhere"), "into: expected a folder of results, found a link that leads"),
    "a data set that is a file": (
        lambda into: (into.mkdir(), (into / "digits").write_text("x")),
        "digits: expected a folder, found a file",
    ),
    "a row that is a file": (
        lambda into: ((into / "digits").mkdir(parents=True), (into / "digits" / "uw").write_text("x")),
        "uw: expected a folder, found a file; move it away",
    ),
    "a data set's folder": (
        lambda into: write_runs(into.parent / "x", [made("MGDA")]) or (into.parent / "x" / "digits").rename(into),
        "found a folder within one, with mgda/seed-0/record.json",
    ),
    "a row's folder": (
        lambda into: (
            write_runs(into.parent / "x", [made("MGDA")]) or (into.parent / "x" / "digits" / "mgda").rename(into)
        ),
        "found a folder within one, with seed-0/record.json",
    ),
    "a run's folder": (
        lambda into: write_record(into, made("MGDA")),
        "found a folder within one, with record.json",
    ),
}


@pytest.mark.parametrize("dry", [["--dry-run"], []])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_folder_of_results_is_refused(
    name: str, dry: list[str], there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "into"
    make, message = PLACES[name]
    make(into)
    before = contents(into)
    error = refused(capsys, "merge", there, "--into", into, *dry)
    assert message in error and error.count("\n") <= 2 and contents(into) == before


def test_a_place_for_no_folder_is_named(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dry in ([], ["--dry-run"]):
        error = refused(capsys, "merge", there, "--into", "/proc/x", *dry)
        assert error.startswith("/proc/x: expected") and error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_row_without_permission_is_named_before_anything_is_written(there: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    write_runs(into, [made("UW", 1)])
    (into / "digits" / "uw").chmod(0o555)
    for path in (into, into / "digits"):
        path.chmod(0o777)
    read, write = os.pipe()
    if not (child := os.fork()):
        from bench.exchange.finding import find_shared
        from bench.exchange.target import unwritable

        runs = find_shared(there).runs
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o111)
        os.setuid(65534)
        os.write(write, "\n".join(unwritable(runs, into)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 10_000).decode()
    assert said.startswith(f"{into / 'digits' / 'uw'}: expected permission for user") and "\n" not in said


def test_a_merge_that_ends_early_says_what_was_added(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    into, move = tmp_path / "into", copying._move

    def full(staged: Path, folder: Path, results: Path) -> None:
        move(staged, folder, results)
        shutil.rmtree(results / "digits" / "uw", ignore_errors=True)
        (results / "digits" / "uw").write_text("x")  # by another program, after the check

    monkeypatch.setattr(copying, "_move", full)
    error = refused(capsys, "merge", there, "--into", into)
    assert error.startswith(f"{into / 'digits' / 'uw'}") and "expected a folder at" in error
    assert "1 of 2 runs were added before; the same merge adds the others." in error
    monkeypatch.undo()
    (into / "digits" / "uw").unlink()
    assert "Merged 1 run into" in printed(capsys, "merge", there, "--into", into)
    assert contents(into) == contents(there)


@pytest.mark.parametrize("name", ["notes.txt", "record.json.bad"])
def test_files_of_no_run_are_never_deleted(
    name: str, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "into", "digits", "ew", 0)
    write_record(folder, make_unfinished("failed", "no memory"))
    for other in (ERROR_LOG, CHECKPOINT, name):
        (folder / other).write_text("mine")
    before = contents(tmp_path / "into")
    error = refused(capsys, "merge", there, "--into", tmp_path / "into")
    assert f"{folder}: expected nothing but a run" in error and f"found {name}; move it away" in error
    assert contents(tmp_path / "into") == before
    (folder / name).unlink()
    printed(capsys, "merge", there, "--into", tmp_path / "into")
    assert len(read_records(tmp_path / "into")) == 2 and not (folder / ERROR_LOG).exists()
