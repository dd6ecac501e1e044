"""bench.runs: what it lists, shows, compares and deletes, and what it never deletes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_trees import write_digits
from record_factory import make_record, make_unfinished

from bench import run, runs
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.records.again import AGAIN
from bench.records.claim import Claim, Progress, beat, release, take
from bench.records.record import Labels, Record
from bench.records.store import CHECKPOINT, RECORD, run_folder, write_record
from bench.spec.resolve import resolve
from bench.spec.versions import code_of, versions_of

HOSTILE = "a_b & 100% {x} <script>\x1b[31m"


def today(method: str, seed: int = 0, **fields: Any) -> dict[str, Any]:
    """What a record has that a run of today writes."""
    spec = resolve("digits", method, seed=seed)
    code = code_of(spec.architecture, spec.weighting)
    return {"seed": seed, "settings": spec.settings.as_dict(), "versions": versions_of(spec), "code": code, **fields}


def write(results: Path, record: Record) -> Path:
    folder = run_folder(results, record.data, record.variant, record.seed)
    write_record(folder, record)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """EW done twice, UW diverged, MGDA failed, PCGrad of older versions."""
    for seed in (0, 1):
        write(tmp_path, make_record(**today("ew", seed)))
    write(tmp_path, make_unfinished("diverged", "the loss of plain is nan", method="UW", **today("uw")))
    write(tmp_path, make_unfinished("failed", f"DataError: {HOSTILE}", method="MGDA", **today("mgda")))
    old = today("pcgrad", versions={**versions_of(resolve("digits", "pcgrad")), "engine": 0})
    write(tmp_path, make_record(method="PCGrad", **old))
    return tmp_path


@pytest.fixture
def claimed(results: Path) -> Iterator[Claim]:
    """Seed 1 of EW is being trained, by this process."""
    claim = take(run_folder(results, "digits", "ew", 1), os.getpid(), 60.0)
    assert isinstance(claim, Claim)
    beat(claim, Progress(epochs=3, planned=30, epoch_seconds=10.0))
    yield claim
    release(claim)


def lines_of(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    assert runs.main(words) == code
    return capsys.readouterr().out.splitlines()


def folders(results: Path) -> set[str]:
    return {str(path.relative_to(results / "digits")) for path in (results / "digits").glob("*/*")}


ALL = {"ew/seed-0", "ew/seed-1", "uw/seed-0", "mgda/seed-0", "pcgrad/seed-0"}


def test_list_has_a_line_for_each_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = lines_of(capsys, "list", "--results", str(results))
    assert head.split() == ["data", "row", "seed", "status", "score", "when", "commit"]
    cells = [line.split() for line in lines]
    assert [(c[1], c[2], c[3]) for c in cells] == [
        ("ew", "0", "done"),
        ("ew", "1", "done"),
        ("mgda", "0", "failed"),
        ("pcgrad", "0", "stale"),
        ("uw", "0", "diverged"),
    ]
    assert all("90.00 %" in line and "0123abc" in line for line in lines[:2])
    assert "version 0 of the engine (today 1)" in lines[3] and "the loss of plain is nan" in lines[4]
    assert "[U+001B]" in lines[2] and all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--status", "failed", "stale"], {"mgda/seed-0", "pcgrad/seed-0"}),
        (["--method", "EW"], {"ew/seed-0", "ew/seed-1"}),
        (["--method", "ew", "uw", "--seeds", "0"], {"ew/seed-0", "uw/seed-0"}),
        (["--data", "Digits", "--status", "diverged"], {"uw/seed-0"}),
        (["--seeds", "7"], set()),
    ],
)
def test_filters(options: list[str], expected: set[str], results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads("\n".join(lines_of(capsys, "list", "--json", "--results", str(results), *options)))
    assert {f"{one['variant']}/seed-{one['seed']}" for one in found} == expected
    listed = lines_of(capsys, "list", "--csv", "--results", str(results), *options)
    rows = list(csv.DictReader(io.StringIO("\n".join(listed))))
    assert [row["variant"] for row in rows] == [one["variant"] for one in found]


def test_an_unknown_filter_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["list", "--results", str(results), "--method", "pcgrd"]) == 2
    assert "Unknown method among the runs 'pcgrd'. Did you mean 'PCGrad'?" in capsys.readouterr().err


def test_json_is_for_scripts(results: Path, claimed: Claim, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads("\n".join(lines_of(capsys, "list", "--json", "--results", str(results), "--method", "ew")))
    assert [one["state"] for one in found] == ["done", "running"]
    assert found[0]["score"] == 0.9 and found[0]["epoch"] == 8 and found[0]["commit"] == "0123abc"
    assert (found[1]["epochs_done"], found[1]["epochs_planned"], found[1]["seconds_left"]) == (3, 30, 270)


def test_show_is_complete(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = Labels(data="Digits", method=HOSTILE)
    overrides = {"train.lr": 0.5}
    write(results, make_record(variant="x@1", labels=labels, overrides=overrides, lost=["after epoch 1: SIGKILL"]))
    text = "\n".join(lines_of(capsys, "show", "x@1", "--results", str(results)))
    for part in ("train.lr  0.5", "0123abc", "90.00 %", "[U+001B]", "after epoch 1: SIGKILL", "record.json", "a CPU"):
        assert part in text, part
    assert "\x1b" not in text
    failed = "\n".join(lines_of(capsys, "show", str(results / "digits/mgda/seed-0"), "--results", str(results)))
    assert "Why it is not done" in failed and "DataError" in failed


@pytest.mark.parametrize(
    "text, message",
    [
        ("ew", "Expected one run, found 2 that 'ew' may mean: digits/ew/seed-0, digits/ew/seed-1; say which"),
        ("pcgradd", "Unknown run 'pcgradd'"),
        ("../elsewhere", "Expected a run in"),
        ("/etc", "Expected a run in"),
        ("ew/10", "Unknown run 'ew/10'"),
    ],
)
def test_names_that_are_of_no_run_or_several(
    text: str, message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.main(["show", text, "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("text", ["ew/1", "EW/seed-1", "digits/ew/1", "d/e/1"])
def test_short_names_find_their_run(text: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "digits/ew/seed-1" in lines_of(capsys, "show", text, "--results", str(results))[0]


def test_diff_says_what_differs_or_that_nothing_does(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(results)]
    (line,) = lines_of(capsys, "diff", "ew/0", "ew/0", *where)
    assert line.endswith("are equal in settings, versions, environment, data and scores.")
    changed = today("ew", 3, fingerprint={"train": "ab"}, versions={"engine": 7}, seconds=99.0)
    changed["settings"]["train"]["lr"] = 0.25
    write(results, make_record(variant="other", environment={"torch": "9.9"}, **changed))
    found = {line.split()[0] for line in lines_of(capsys, "diff", "ew/0", "other", *where)[1:]}
    assert {"settings.train.lr", "versions.engine", "environment.torch", "fingerprint.train"} <= found
    assert not [key for key in found if key.startswith(("seconds", "test", "validation"))]


def test_status_names_what_is_not_simply_done(
    results: Path, claimed: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(lines_of(capsys, "status", "--results", str(results)))
    assert "epoch 3 of 30, 4 min left" in text
    beat(claimed, Progress(epochs=3, planned=30, epoch_seconds=60.0, share=0.5))
    text = "\n".join(lines_of(capsys, "status", "--results", str(results)))
    assert "epoch 3 of 30 and 50% of the next, 26 min left" in text
    for part in ("Running (1):", "Failed (1):", "Diverged (1):", "Stale;", "DataError"):
        assert part in text, part
    head, counts = text.splitlines()[:2]
    assert dict(zip(head.split()[1:], map(int, counts.split()[1:]), strict=True)) == {
        "done": 1,
        "stale": 1,
        "diverged": 1,
        "failed": 1,
        "running": 1,
    }


def test_status_of_a_study_names_what_is_missing(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine.yaml"
    rows = "[{label: EW, method: ew}, {label: UW, method: uw}, {label: UW frozen, twin_of: UW}]"
    table = f"tables: [{{name: all, title: All, rows: {rows}}}]"
    study.write_text(f"title: Mine\n{table}\ndata: [digits]\nseeds: [0, 1]\n")
    where = ["--study", str(study), "--results", str(results), "--data-root", str(tmp_path)]
    lines = lines_of(capsys, "status", *where)
    start = next(place for place, line in enumerate(lines) if line.startswith("data"))
    counts = dict(zip(lines[start].split()[1:], lines[start + 1].split()[1:], strict=True))
    assert counts == {"done": "2", "diverged": "1", "missing": "1"}
    text = "\n".join(lines)
    assert "Missing (1):\n  digits/uw/seed-1" in text and "Twins that wait for other runs (2):" in text
    assert "mgda" not in text
    found = json.loads("\n".join(lines_of(capsys, "list", "--json", *where)))
    assert [(one["variant"], one["seed"]) for one in found] == [("ew", 0), ("uw", 0), ("ew", 1)]


def test_rm_deletes_what_the_filters_say_and_nothing_else(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(results)]
    (results / "digits" / "notes.txt").write_text("mine")
    (results / "digits" / "mgda" / "notes.txt").write_text("mine")
    text = "\n".join(lines_of(capsys, "rm", "--status", "failed", "--dry-run", *where))
    assert "mgda" in text and "Would delete 1 run." in text and folders(results) >= ALL
    assert "Deleted 1 run." in lines_of(capsys, "rm", "--status", "failed", "--yes", *where)
    assert folders(results) == ALL - {"mgda/seed-0"} | {"mgda/notes.txt"}
    assert "Deleted 2 runs." in lines_of(capsys, "rm", "ew", "--yes", *where)
    assert "Deleted 1 run." in lines_of(capsys, "rm", str(results / "digits" / "uw"), "--yes", *where)
    assert folders(results) == {"pcgrad/seed-0", "mgda/notes.txt"} and (results / "digits" / "notes.txt").exists()


def test_rm_leaves_no_empty_folders(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines_of(capsys, "rm", "ew/0", "uw", "--yes", "--results", str(results))
    assert {path.name for path in (results / "digits").iterdir()} == {"ew", "mgda", "pcgrad"}
    assert "Deleted 3 runs." in lines_of(capsys, "rm", "Digits", "--yes", "--results", str(results))
    assert list(results.iterdir()) == []


def test_rm_takes_no_part_of_the_name_of_a_data_set(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["rm", "digi", "--yes", "--results", str(results)]) == 2
    assert "Unknown run 'digi'" in capsys.readouterr().err and folders(results) == ALL


@pytest.mark.parametrize("row, seed", [("ew", "seed-00"), ("e\x1b[31mw", "seed-0"), ("ew", "seed-+7")])
def test_folders_that_no_run_can_have_stay_and_are_called_so(
    row: str, seed: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = results / "digits" / row / seed
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(make_record(**today("ew")).model_dump_json())
    assert runs.main(["list", "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert "no run has a folder of this name: move it out of the results." in error and "bench.run" not in error
    lines = lines_of(capsys, "rm", "--status", "damaged", "--yes", "--results", str(results), code=1)
    assert "expected the name of a run, data/variant/seed-<s> as bench.run writes it, found another" in lines[0]
    assert not any("link" in line for line in lines) and (folder / RECORD).exists()


def test_rm_asks_and_needs_to_be_told_what(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--results", str(results)]
    assert runs.main(["rm", *where]) == 2
    assert "Expected RUN, --data, --method, --seeds, --status or --study, found none" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # not a terminal
    assert runs.main(["rm", "ew", *where]) == 2
    assert "Expected --yes where nobody can be asked" in capsys.readouterr().err
    for answer, left in (("n\n", ALL), ("\n", ALL), ("y\n", ALL - {"ew/seed-0", "ew/seed-1"})):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        assert runs.main(["rm", "ew", *where]) == (0 if left != ALL else 1)
        assert folders(results) == left


def test_rm_never_deletes_a_run_that_is_trained(
    results: Path, claimed: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["ew/1"], ["--data", "digits"], [str(results / "digits" / "ew")]):
        lines = lines_of(capsys, "rm", *words, "--yes", "--results", str(results), code=1)
        assert any("trains this run; it stays" in line for line in lines)
        assert "ew/seed-1" in folders(results)
    with claimed.guard():  # it is still ours
        pass


def test_a_claim_that_comes_between_looking_and_deleting_keeps_the_run(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked = runs.remove_run

    def late(folder: Path, root: Path) -> str:
        claim = take(folder, os.getpid(), 60.0)
        assert isinstance(claim, Claim)
        return looked(folder, root)

    monkeypatch.setattr(runs, "remove_run", late)
    assert "Deleted 0 runs." in lines_of(capsys, "rm", "ew/0", "--yes", "--results", str(results), code=1)
    assert "ew/seed-0" in folders(results)


def test_rm_follows_no_links(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    kept = write(outside, make_record(**today("ew")))
    (results / "digits" / "linked").mkdir()
    (results / "digits" / "linked" / "seed-0").symlink_to(kept)
    (results / "elsewhere").symlink_to(outside / "digits")
    (results / "digits" / "ew" / "seed-2").symlink_to(results / "digits" / "ew" / "seed-0")
    for words in (["linked"], ["--data", "elsewhere"], ["ew/2"], [str(outside)], [str(results / ".." / outside.name)]):
        assert runs.main(["rm", *words, "--yes", "--results", str(results)]) in (1, 2), words
        assert (kept / RECORD).is_file() and folders(results) >= ALL


def test_damaged_records_are_named_and_the_rest_is_shown(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / "digits" / "ew" / "seed-1" / RECORD
    path.write_text('{"schema_version": 1')
    for command in ("list", "status"):
        assert runs.main([command, "--results", str(results)]) == 2
        found = capsys.readouterr()
        assert str(path) in found.err and found.err.count("\n") == 1 and "damaged" in found.out and "uw" in found.out
    assert "Deleted 1 run." in lines_of(capsys, "rm", "--status", "damaged", "--yes", "--results", str(results), code=0)


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(capsys, "list", "--results", str(tmp_path / "none")) == [f"No runs in {tmp_path / 'none'}."]
    assert lines_of(capsys, "list", "--json", "--results", str(tmp_path / "none")) == ["[]"]
    assert lines_of(capsys, "status", "--results", str(tmp_path / "none")) == ["No runs."]
    assert runs.main(["rm", "ew", "--results", str(tmp_path / "none"), "--yes"]) == 2


def test_an_interrupted_run_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_digits(tmp_path / "data")
    spec = resolve("digits", "ew", assignments={"train.epochs": 5, "train.batch_size": 8})
    results = tmp_path / "results"

    def stop(event: Event) -> None:
        if event.kind == "epoch" and event.epochs == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_locally([spec], LaunchConfig({"digits": data}, results, "cpu", 1), 1, stop)
    assert (run_folder(results, *spec.key) / CHECKPOINT).is_file()
    (_, line) = lines_of(capsys, "list", "--results", str(results))
    assert "interrupted" in line and "of 5" in line
    text = "\n".join(lines_of(capsys, "status", "--results", str(results)))
    assert "Interrupted; the same command goes on with them (1):" in text
    assert not (run_folder(results, *spec.key) / AGAIN).exists()


@pytest.mark.slow
def test_ten_thousand_records_take_seconds(tmp_path: Path) -> None:
    record = make_record(**today("ew"))
    for variant in range(100):
        for seed in range(100):
            folder = run_folder(tmp_path, "digits", f"ew@{variant:08x}", seed)
            folder.mkdir(parents=True)
            changed = record.model_copy(update={"variant": f"ew@{variant:08x}", "seed": seed})
            (folder / RECORD).write_text(changed.model_dump_json(indent=1))
    for command in ("list", "status"):
        before = os.times().children_user
        start = time.monotonic()
        words = [sys.executable, "-m", "bench.runs", command, "--results", str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        print(command, time.monotonic() - start, "s,", os.times().children_user - before, "s of a core")
        assert "10000" in done.stdout or done.stdout.count("\n") == 10_001
        assert os.times().children_user - before < 60


def test_runs_of_the_command_itself_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that bench.run has trained is done, of today's versions and code."""
    data = write_digits(tmp_path / "data")
    words = ["--method", "ew", "--data", "digits", "--seeds", "0", "--epochs", "1", "--set", "train.batch_size=8"]
    where = ["--results", str(tmp_path / "results"), "--data-root", str(data.parent), "--device", "cpu"]
    assert run.main([*words, *where]) == 0
    capsys.readouterr()
    (_, line) = lines_of(capsys, "list", "--results", str(tmp_path / "results"), "--status", "done")
    assert line.split()[0] == "digits" and line.split()[3] == "done" and "%" in line
