"""Reports in a folder that has an earlier one: what only that had is removed, and nothing else ever is."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paper_records import paper_records, report_on
from record_factory import make_record, without_drawing, write_runs

from bench import ROOT
from bench.records.files import StorageError
from bench.report import main
from bench.reporting import written_files
from bench.reporting.output_folder import alone_in
from bench.reporting.paper.layout import TABLE2
from bench.reporting.written_files import LIST, Changes, put_in_place, read_list

# A report that is killed when it has moved so many files.
KILLED = """
import os, signal, sys
from record_factory import without_drawing
from bench.report import main
from bench.reporting import written_files

left, move = int(sys.argv.pop(1)), written_files._move

def move_or_die(path, place):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    move(path, place)

written_files._move = move_or_die
with without_drawing():
    main(sys.argv[1:])
"""


def killed_report(results: Path, out: Path, moved: int) -> None:
    command = [sys.executable, "-c", KILLED, str(moved), "--results", str(results), "--out", str(out)]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}"}, check=False)
    assert found.returncode == -signal.SIGKILL


def names(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def report(results: Path, out: Path, *options: str) -> int:
    with without_drawing():
        return main(["--results", str(results), "--out", str(out), *options])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records on two data sets, on one of them, and a report on the former."""
    folder = tmp_path_factory.mktemp("reported")
    rooms = [make_record("rooms", name) for name in ("EW", "UW")]
    write_runs(folder / "rooms", rooms)
    write_runs(folder / "both", [*rooms, *(make_record("digits", name) for name in ("EW", "UW"))])
    assert report(folder / "both", folder / "out") == 0
    return folder


@pytest.fixture
def folders(reported: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A copy of them."""
    shutil.copytree(reported, tmp_path, dirs_exist_ok=True)
    return tmp_path / "both", tmp_path / "rooms", tmp_path / "out"


def test_what_only_the_earlier_report_had_is_removed_and_named(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, rooms, out = folders
    before = names(out)
    (out / "mine.txt").write_text("mine")
    capsys.readouterr()
    assert report(both, out) == 0
    assert "earlier report" not in capsys.readouterr().out and names(out) == {*before, "mine.txt"}
    (out / "digits" / "scores.tex").write_text("edited")
    assert report(rooms, out) == 0
    text = capsys.readouterr().out
    assert "An earlier report in this folder was made from ../both." in text
    assert "digits/scores.md" in text and "so they stay until you delete them: digits/scores.tex." in text
    assert {name for name in names(out) if name.startswith("digits")} == {"digits/scores.tex"}
    assert report(rooms, out) == 0
    assert "so they stay until you delete them: digits/scores.tex." in capsys.readouterr().out
    assert (out / "mine.txt").exists() and "problems.md" in before - names(out)
    assert str(out) not in (out / LIST).read_text()


def test_reports_of_one_data_set_keep_those_of_others(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, rooms, out = folders
    before = names(out)
    assert report(both, out, "--data", "rooms") == 0 and names(out) == before
    assert report(rooms, out, "--data", "rooms") == 0  # its index has no digits, whose files stay until all is written
    assert {name for name in before if name.startswith("digits")} < names(out)
    assert report(rooms, out) == 0 and not (out / "digits").exists()


def test_a_table_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    held_out = [run for run in paper_records(TABLE2) if run.method in ("ew", "uw")]
    settings = {"data": {"protocol": "published"}}
    changes = {"variant": "ew@p", "overrides": {"data.protocol": "published"}, "settings": settings}
    write_runs(tmp_path / "one", [run.model_copy(update=changes) for run in held_out if run.method == "ew"])
    write_runs(tmp_path / "two", held_out)
    with without_drawing():
        assert report_on(tmp_path / "one", tmp_path / "out") == 0
        assert (tmp_path / "out" / "table2-published.tex").exists()
        assert report_on(tmp_path / "two", tmp_path / "out") == 0
    assert not [name for name in names(tmp_path / "out") if "published" in name]
    assert (tmp_path / "out" / "table2.tex").exists()


def test_files_behind_links_and_outside_stay(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, rooms, out = folders
    (out / "digits").rename(tmp_path / "elsewhere")
    (out / "digits").symlink_to(tmp_path / "elsewhere")
    kept = names(tmp_path / "elsewhere")
    assert report(rooms, out) == 0 and names(tmp_path / "elsewhere") == kept


@pytest.mark.parametrize("files", [{"../both/x": ""}, {"/etc/x": ""}, {"a//b": ""}, ["a"]])
def test_another_list_is_refused(files: object, tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(json.dumps({"results": [], "files": files}))
    with pytest.raises(StorageError, match="expected the list of files of an earlier report"):
        read_list(tmp_path)


def test_another_list_stops_the_report(folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, rooms, out = folders
    (out / LIST).write_text("mine")
    before = (out / "README.md").read_bytes()
    assert report(rooms, out) == 2 and (out / "README.md").read_bytes() == before
    error = capsys.readouterr().err
    assert "files.json: expected the list of files" in error and error.count("\n") == 1


def test_two_reports_are_never_written_to_one_folder_at_once(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, rooms, out = folders
    with alone_in(out):
        assert report(rooms, out) == 2
    assert "found one that another command writes to" in capsys.readouterr().err
    assert report(rooms, out) == 0


def test_no_report_is_written_through_a_link(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, _, out = folders
    shutil.rmtree(out)
    (out.parent / "elsewhere").mkdir()
    out.mkdir()
    (out / "digits").symlink_to(out.parent / "elsewhere")
    assert report(both, out) == 2
    assert f"{out / 'digits'}: expected a folder, found a link" in capsys.readouterr().err
    assert not list((out.parent / "elsewhere").iterdir()) and names(out) == set()


@pytest.mark.parametrize("moved", [10, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 1, 30))])
def test_what_a_killed_report_wrote_is_removed_by_the_next(
    moved: int, folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, rooms, out = folders
    shutil.rmtree(out)
    assert report(rooms, out) == 0
    before = names(out)
    killed_report(both, out, moved)
    found = {name for name in names(out) if not name.startswith(".report-")}
    listed = read_list(out)
    assert listed is not None and found - {LIST} <= listed.files.keys() and len(found - before) <= moved
    (out / "digits").mkdir(exist_ok=True)
    mine = out / "digits" / "verdicts.tex"  # which the killed report was about to write, or wrote
    mine.write_text("mine")
    assert report(both, out) == 2 and mine.read_text() == "mine"
    assert "found digits/verdicts.tex. Nothing was written" in capsys.readouterr().err
    assert report(rooms, out) == 0 and mine.read_text() == "mine"
    assert names(out) == {*before, "digits/verdicts.tex"}, "neither files nor folders of the killed report are left"


def test_a_file_of_somebody_is_not_replaced(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, rooms, out = folders
    assert report(rooms, out) == 0
    before = {name: (out / name).read_bytes() for name in names(out)}
    for name in ("digits/scores.tex", "problems.md"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    capsys.readouterr()
    assert report(both, out) == 2
    error = capsys.readouterr().err
    assert "digits/scores.tex" in error and "problems.md" in error and error.count("\n") == 1
    mine = {"digits/scores.tex": b"mine", "problems.md": b"mine"}
    assert {name: (out / name).read_bytes() for name in names(out)} == before | mine
    for name in mine:
        (out / name).unlink()
    (out / "digits").rmdir()
    (out / "digits").write_text("mine")
    assert report(both, out) == 2 and f"{out / 'digits'}: expected a folder, found a file" in capsys.readouterr().err
    (out / "digits").unlink()
    assert report(both, out) == 0 and "problems.md" in names(out)


def test_a_report_without_a_list_is_known_by_its_index(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    both, rooms, out = folders
    before = names(out)
    (out / LIST).unlink()
    assert report(both, out, "--data", "rooms") == 0 and report(both, out) == 0 and names(out) == before
    (out / LIST).unlink()
    capsys.readouterr()
    assert report(rooms, out) == 0 and names(out) == before, "nothing says that they are as the report wrote them"
    assert "digits/scores.md" in capsys.readouterr().out
    (out / LIST).unlink()
    assert report(both, out) == 2
    assert re.search(r"found digits/.* \(and \d+ more\)\. Nothing was written", capsys.readouterr().err)


def test_reports_that_are_killed_one_after_the_other_know_all_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is killed before it has removed what was there before the first."""
    out = tmp_path / "out"
    out.mkdir()

    def put(**texts: str) -> Changes:
        new = tmp_path / "new"
        for name, text in texts.items():
            (new / name).mkdir(parents=True, exist_ok=True)
            (new / name / "table.md").write_text(text)
        try:
            return put_in_place(out, new, [new / name / "table.md" for name in texts], read_list(out), [tmp_path])
        finally:
            shutil.rmtree(new)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    put(a="1", b="1")
    for step, texts in (("_move", {"a": "2", "b": "2"}), ("_remove", {"a": "3"})):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(written_files, step, killed)
            put(**texts)
    assert (out / "b" / "table.md").read_text() == "1"
    assert put(a="4", b="4").files == (out / "a" / "table.md", out / "b" / "table.md")
    assert put(a="5").removed == ("b/table.md",) and not (out / "b").exists()


def test_the_list_names_the_records_of_files_that_stay(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, rooms, out = folders
    for _ in range(2):
        capsys.readouterr()
        assert report(rooms, out, "--data", "rooms") == 0
        assert "An earlier report in this folder was made from ../both." in capsys.readouterr().out
        listed = read_list(out)
        assert listed is not None and listed.results == ["../rooms", "../both"] and "digits/scores.md" in listed.files
    assert report(rooms, out) == 0
    listed = read_list(out)
    assert listed is not None and listed.results == ["../rooms"]
