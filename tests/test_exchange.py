"""bench.runs merge, check and export FILE: what is copied, what is refused, and that nothing is half done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_trees import write_digits
from exchange_cases import MARKS, VERSIONS, contents, made, printed, refused, write_runs
from record_factory import make_unfinished

from bench import runs
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.exchange import copying, shared_runs
from bench.records.all_records import read_records
from bench.records.claim import Claim, release, take
from bench.records.store import CHECKPOINT, CURVE, RECORD, read_run, run_folder, write_record
from bench.records.trials import TRIALS, TUNING, TrialRun, write_trials
from bench.spec.planning import make_plan
from bench.spec.request import Request
from bench.spec.resolve import resolve
from bench.spec.study import StudyRow

SHORT = {"train.epochs": 1, "train.batch_size": 8}
THERE = {"torch": "2.15", "device": "cuda: H100", "cpu": "two", "threads": 4, "commit": "4567def", "python": "3.13"}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The results of two machines: EW and UW with seed 0 of one, EW with seeds 1 and 2 of another."""
    write_runs(tmp_path / "here", [made(), made("UW")])
    write_runs(tmp_path / "there", [made(seed=seed, environment=THERE) for seed in (1, 2)])
    return tmp_path / "here", tmp_path / "there"


def test_runs_of_two_machines_become_one_folder(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "all"
    out = printed(capsys, "merge", *two, "--into", into, "--dry-run")
    assert "would add digits/ew/seed-2" in out and "Would merge 4 runs" in out and not into.exists()
    out = printed(capsys, "merge", *two, "--into", into)
    assert "Merged 4 runs" in out
    for values in ("torch: 2.14, 2.15", "device: cpu, cuda: H100", "cpu: one, two", "threads: 1, 4"):
        assert values in out
    assert contents(into) == {**contents(two[0]), **contents(two[1])}
    assert len(read_records(into)) == 4 and [path.name for path in into.iterdir()] == ["digits"]
    before = {path: path.stat().st_ino for path in into.rglob("*")}
    assert "Merged 0 runs" in (out := printed(capsys, "merge", *two, "--into", into)) and "4 runs already there" in out
    assert {path: path.stat().st_ino for path in into.rglob("*")} == before


OTHER = {
    "data": (
        {"fingerprint": {**MARKS, "test": "x", "whole": "y"}},
        "found other images or labels in test in digits/ew/",
    ),
    "partition": ({"fingerprint": {**MARKS, "train": "x"}}, "another partition of the same images (train)"),
    "engine": ({"versions": {**VERSIONS, "engine": 2}}, "version of the engine: expected 1 "),
    "weighting": ({"versions": {**VERSIONS, "weighting": 3}}, "version of the weighting ew: expected 1 "),
    "no versions": (
        {"versions": {}},
        "version of the problem: expected 4 as the other runs of digits have, found none",
    ),
    "settings": ({"settings": {"train": {"epochs": 20, "lr": 0.003}}, "epochs": 20}, "train.epochs: expected 10 "),
    "rule": (
        {"selected": {"epoch": 3, "rule": "the last epoch", "score": 0.9}},
        "rule that selects the epoch: expected",
    ),
    "heads": ({"head_rule": "plain"}, "head_rule: expected '' as the other runs of digits/ew have, found 'plain'"),
}


@pytest.mark.parametrize("name", OTHER)
def test_runs_that_cannot_be_compared_are_refused_by_name(
    name: str, two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = two
    fields, message = OTHER[name]
    write_runs(there, [made(seed=7, **fields)])
    before = contents(here)
    error = refused(capsys, "merge", there, "--into", here)
    assert message in error and all("digits/ew/seed-7" in line for line in error.splitlines()) and "seed-1" not in error
    assert contents(here) == before
    # Nor may it be in a file, or pass a check.
    assert message.split(":")[0] in refused(capsys, "check", there)
    assert "seed-7" in refused(capsys, "export", there.parent / "x.zip", "--results", there)
    assert not (there.parent / "x.zip").exists()


def test_with_a_partition_for_each_seed_the_whole_data_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"train": {"epochs": 10}, "data": {"split_per_seed": True}}
    own = [made(seed=s, settings=settings, fingerprint={**MARKS, "train": f"t{s}", "test": f"x{s}"}) for s in range(3)]
    write_runs(tmp_path / "a", own[:1])
    write_runs(tmp_path / "b", own[1:])
    printed(capsys, "merge", tmp_path / "b", "--into", tmp_path / "a")
    write_runs(
        tmp_path / "c", [made("UW", 1, settings=settings, fingerprint={**MARKS, "train": "t1", "test": "other"})]
    )
    assert "in digits/uw/seed-1" in refused(capsys, "merge", tmp_path / "c", "--into", tmp_path / "a")
    write_runs(tmp_path / "d", [made("UW", 5, settings=settings, fingerprint={**MARKS, "whole": "e"})])
    assert "in digits/uw/seed-5" in refused(capsys, "merge", tmp_path / "d", "--into", tmp_path / "a")


def test_other_content_of_the_same_run_is_a_conflict(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = two
    write_runs(there, [made("UW", environment=THERE)])
    before = contents(here), contents(there)
    error = refused(capsys, "merge", there, "--into", here)
    assert error.startswith("digits/uw/seed-0: is in ") and "(environment)" in error and len(error.splitlines()) == 1
    assert (contents(here), contents(there)) == before
    error = refused(capsys, "merge", here, there, "--into", here.parent / "all")  # nor between two sources
    assert "digits/uw/seed-0: is in" in error and not (here.parent / "all").exists()


def test_what_is_not_finished_is_left_out_and_named(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    here, there = two
    partly, failed = run_folder(there, "digits", "mgda", 0), make_unfinished("failed", "no memory", method="PCGrad")
    partly.mkdir(parents=True)
    (partly / CHECKPOINT).write_bytes(b"x")
    write_record(run_folder(there, "digits", "pcgrad", 0), failed)
    (run_folder(there, "digits", "ew", 1) / "error.txt").write_text("x")
    (there / "speed").mkdir()
    (there / "notes.txt").write_text("x")
    claim = take(run_folder(there, "digits", "ew", 2), os.getpid(), 60.0)
    assert isinstance(claim, Claim)
    out = printed(capsys, "merge", there, "--into", here)
    release(claim)
    assert "Merged 1 run into" in out and not (here / "digits" / "ew" / "seed-2").exists()
    for line in (
        "mgda/seed-0: not finished, it has a checkpoint", "pcgrad/seed-0: failed (no memory)", "trains it; if that",
        "1 run: error.txt, which is not shared", "speed: measurements of machines", "notes.txt: a file that is of",
    ):  # fmt: skip
        assert line in out
    assert not (here / "digits" / "ew" / "seed-1" / "error.txt").exists()


def test_a_finished_run_takes_the_place_of_a_failed_or_unfinished_one(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = two
    write_record(run_folder(here, "digits", "ew", 1), make_unfinished("failed", "no memory", seed=1))
    place = run_folder(here, "digits", "ew", 2)
    place.mkdir()
    (place / CHECKPOINT).write_bytes(b"x")
    claim = take(place, os.getpid(), 60.0)
    assert isinstance(claim, Claim)
    assert "trains it; stop that first" in refused(capsys, "merge", there, "--into", here)
    release(claim)
    out = printed(capsys, "merge", there, "--into", here)
    assert "ew/seed-1: takes the place of a run that is failed" in out and "seed-2: takes the place" in out
    assert contents(here)["digits/ew/seed-1/record.json"] == contents(there)["digits/ew/seed-1/record.json"]
    assert not (place / CHECKPOINT).exists() and not [name for name in os.listdir(place.parent) if name.startswith(".")]


def test_a_run_that_ends_meanwhile_is_kept(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = two
    original = copying._stage

    def stage(run: shared_runs.SharedRun, folder: Path) -> Path:
        write_record(run_folder(here, *run.key), made(seed=run.key[2], reason="trained here meanwhile"))
        return original(run, folder)

    monkeypatch.setattr(copying, "_stage", stage)
    assert "another process has finished this run" in refused(capsys, "merge", there, "--into", here)
    record = read_run(run_folder(here, "digits", "ew", 1))
    assert record is not None and record.reason == "trained here meanwhile"


def test_a_killed_merge_leaves_whole_runs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source, into = tmp_path / "source", tmp_path / "into"
    write_runs(source, [made(seed=seed) for seed in range(6)])
    words = ["merge", str(source), "--into", str(into)]
    child = os.fork()
    if not child:
        moved, move = iter(range(6)), copying._move

        def stop_in_between(*arguments: Any) -> None:
            if next(moved) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            move(*arguments)

        copying._move = stop_in_between
        runs.main(words)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(read_records(into)) == 3 and contents(into / "digits").items() <= contents(source / "digits").items()
    assert [path.name for path in into.iterdir() if path.name != "digits"]  # what is cleared away next time
    assert runs.main(words) == 0
    assert contents(into) == contents(source) and [path.name for path in into.iterdir()] == ["digits"]


def link(place: Path, outside: Path) -> None:
    outside.write_text("x")
    place.symlink_to(outside)


HOSTILE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "a link to a file": (
        lambda run, out: link(run / "positions.csv", out),
        "positions.csv: expected no link, found one",
    ),
    "a link to a folder": (lambda run, out: link(run.parent / "seed-9", out), "seed-9: expected no link, found one"),
    "a link to a data set": (
        lambda run, out: link(run.parents[2] / "rooms", out),
        "rooms: expected no link, found one",
    ),
    "a name": (lambda run, out: (run / "a b\n\x1b[31m").write_text("x"), r"found 'a b\n\x1b[31m'; rename or remove it"),
    "a pipe": (lambda run, out: os.mkfifo(run / "cosines.csv"), "found a pipe or a device"),
    "a large file": (
        lambda run, out: (run / CURVE).write_bytes(b"1" * 200_000),
        "at most 100,000 bytes, found more",
    ),
    "a curve": (lambda run, out: (run / CURVE).write_text("epoch,step\n1,x\n"), "expected a table of numbers in CSV"),
    "a short curve": (
        lambda run, out: (run / CURVE).write_text("epoch,step,seconds,score\n1,1,1,1\n"),
        "a row for each of the 10 epochs",
    ),
    "other columns": (lambda run, out: (run / CURVE).write_text("step\n1\n"), "expected a column 'epoch'"),
    "another run": (
        lambda run, out: shutil.move(run, run.with_name("seed-5")),
        "expected the run that its folder names",
    ),
    "no record": (lambda run, out: (run / RECORD).write_text("{"), "expected JSON, found"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused(
    name: str, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = two
    change, message = HOSTILE[name]
    monkeypatch.setitem(shared_runs.LARGEST_FILES, CURVE, 100_000)  # type: ignore[arg-type]
    change(run_folder(there, "digits", "ew", 1), here.parent / "outside")
    before = contents(here)
    error = refused(capsys, "merge", there, "--into", here)
    assert message in error and contents(here) == before and error.isprintable() is False and "\x1b" not in error


def test_a_record_whose_names_contradict_its_settings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path / "a", [made(overrides={"train.lr": 0.5}, variant="ew@01234567")])
    write_runs(tmp_path / "b", [made(overrides={"train.lr": 0.003}, variant="ew@01234567")])
    assert "overrides.train.lr: expected 0.003 as in the settings" in refused(capsys, "check", tmp_path / "a")
    assert "variant: expected ew with the overrides of the record" in refused(capsys, "check", tmp_path / "b")


def test_seeds_of_trials_are_never_reported(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    here, there = two
    trial = TrialRun("digits", "EW", "ew", "ew", 0, 0, "done", "accuracy", 0.9, 1, 1, 1, 1.0, 1)
    write_trials(there / TUNING / TRIALS, [trial])
    error = refused(capsys, "merge", there, "--into", here)
    assert "no run with a seed of the trials that are merged, found digits/ew/seed-0, digits/uw/seed-0" in error
    file = here.parent / "tuned.zip"
    printed(capsys, "export", file, "--results", there)
    assert "trials that are merged" in refused(capsys, "merge", file, "--into", here)
    write_runs(there, [made("UW")])
    assert "a seed of its trials of tuning, found digits/uw/seed-0" in refused(capsys, "check", there)
    write_trials(here / TRIALS, [trial])
    assert "expected trials as in" in refused(capsys, "merge", there, "--into", here)
    assert "found that of trials" in refused(capsys, "export", here.parent / "x.zip", "--results", here)


def test_twins_without_their_sources_are_named(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    here, there = two
    weighting = {"source": "digits/mgda", "source_seeds": [0, 1], "weights": [1.0]}
    settings = {"train": {"epochs": 10, "lr": 0.003}, "weighting": weighting}
    write_runs(there, [made("Frozen", settings=settings)])
    out = printed(capsys, "merge", there, "--into", here)
    assert "digits/frozen/seed-0: is the twin of digits/mgda/seed-0, digits/mgda/seed-1, not there" in out


def test_the_same_runs_give_the_same_file(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    here, there = two
    files = [here.parent / name for name in ("a.zip", "b.zip", "c.zip")]
    printed(capsys, "merge", there, "--into", here)
    printed(capsys, "export", files[0], "--results", here)
    other = here.parent / "other"
    for place in sorted(here.glob("digits/*/*"), reverse=True):  # other times, another order
        shutil.copytree(place, other / place.relative_to(here), copy_function=shutil.copyfile)
    printed(capsys, "export", files[1], "--results", other)
    assert files[0].read_bytes() == files[1].read_bytes()
    printed(capsys, "merge", files[0], "--into", here.parent / "all")
    assert contents(here.parent / "all") == contents(here)
    printed(capsys, "export", files[2], "--results", here, "--method", "ew", "--seeds", "1")
    with zipfile.ZipFile(files[2]) as file:
        run = "digits/ew/seed-1"
        assert file.namelist() == ["manifest.json", f"{run}/curve.csv", f"{run}/record.json"]
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}
    assert "expected no file of that name" in refused(capsys, "export", files[2], "--results", here)
    assert "expected finished runs" in refused(
        capsys, "export", here.parent / "x.zip", "--results", here, "--seeds", "8"
    )


def test_check_says_what_a_file_holds(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    here, there = two
    printed(capsys, "export", here.parent / "a.zip", "--results", there)
    out = printed(capsys, "check", here.parent / "a.zip", here)
    assert "digits: 2 done; 1 rows; seeds 1, 2; versions: architecture 1, engine 1" in out and "test c" in out
    assert "a.zip: intact, and its runs belong together." in out and "SHA-256 of the file: " in out


def rewritten(path: Path, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None], **options: Any) -> None:
    """The file with other entries."""
    with zipfile.ZipFile(path) as file:
        entries = [(entry, file.read(entry)) for entry in file.infolist()]
    change(entries)
    with zipfile.ZipFile(path, "w", **options) as file:
        for entry, content in entries:
            file.writestr(entry, content)


def entry(name: str, mode: int = stat.S_IFREG | 0o644, **fields: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    for key, value in fields.items():
        setattr(made, key, value)
    return made


RUN = "digits/ew/seed-1"
BAD_ENTRIES: dict[str, tuple[list[tuple[zipfile.ZipInfo, bytes]], str]] = {
    "zip slip": ([(entry("../../evil"), b"x")], "expected data/variant/seed-<s>/<file of a run>, found '../../evil'"),
    "hidden zip slip": ([(entry("../ew/seed-3/curve.csv"), b"x")], "expected data/variant/seed-<s>/<file of a run>"),
    "absolute": ([(entry("/etc/x"), b"x")], "expected data/variant/seed-<s>/<file of a run>, found '/etc/x'"),
    "checkpoint": ([(entry(f"{RUN}/checkpoint.pt"), b"x")], "expected data/variant/seed-<s>/<file of a run>"),
    "twice": ([(entry(f"{RUN}/curve.csv"), b"x")], "expected each name once, found 'digits/ew/seed-1/curve.csv' again"),
    "link": (
        [(entry(f"{RUN}/cosines.csv", stat.S_IFLNK | 0o777), b"/etc/passwd")],
        "found a link, a folder or a device",
    ),
    "bomb": (
        [(entry(f"{RUN}/cosines.csv", compress_type=zipfile.ZIP_DEFLATED), b"0" * 2**20)],
        "expected files without compression",
    ),
    "too large": ([(entry("digits/ew/seed-4/cosines.csv"), b"0" * 2000)], "expected at most 1,000 bytes in"),
    "not in the manifest": (
        [(entry(f"{RUN}/positions.csv"), b"x")],
        "found 'digits/ew/seed-1/positions.csv' in the file",
    ),
}


@pytest.fixture
def file(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> Path:
    printed(capsys, "export", two[0].parent / "runs.zip", "--results", two[1])
    return two[0].parent / "runs.zip"


@pytest.mark.parametrize("name", BAD_ENTRIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_with_bad_entries_are_refused(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(shared_runs.LARGEST_FILES, "cosines.csv", 1000)  # type: ignore[arg-type]
    bad, message = BAD_ENTRIES[name]
    rewritten(file, lambda entries: entries.extend(bad))
    error = refused(capsys, "merge", file, "--into", file.parent / "all")
    assert message in error and len(error.splitlines()) == 1
    assert not (file.parent / "all").exists() and not (file.parent / "evil").exists()


def test_changed_files_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = file.read_bytes()

    def fails(content: bytes) -> str:
        file.write_bytes(content)
        error = refused(capsys, "check", file)
        assert len(error.splitlines()) == 1 and "Traceback" not in error
        return error

    for length in (0, 10, len(good) // 2, len(good) - 1):
        fails(good[:length])
    place = good.index(b'"seed": 1,')  # of a record
    assert "Bad CRC-32" in fails(good[:place] + b'"seed": 2,' + good[place + 10 :])
    assert "more bytes; don't use this file" in fails(b"x" + good)
    assert "Traceback" not in fails(good + b"x")
    fails(b"no ZIP file")
    for name, old, new, message in [
        (
            f"{RUN}/record.json",
            b'"score": 0.9',
            b'"score": 0.8',
            "expected the checksum of the manifest, found another",
        ),
        ("manifest.json", b'"format": 1', b'"format": 2', "expected format 1, found 2"),
        ("manifest.json", b'"done": 2', b'"done": 3', "expected what the records say, found something else"),
        ("manifest.json", b'"data"', b'"date"', "manifest.json: "),
        ("manifest.json", b"{", b"[", "manifest.json: expected JSON"),
    ]:
        file.write_bytes(good)

        def change(
            entries: list[tuple[zipfile.ZipInfo, bytes]], what: tuple[str, bytes, bytes] = (name, old, new)
        ) -> None:
            for place, (one, content) in enumerate(entries):
                if one.filename == what[0]:
                    assert what[1] in content
                    entries[place] = (one, content.replace(what[1], what[2], 1))

        rewritten(file, change)
        assert message in fails(file.read_bytes())


@pytest.mark.parametrize("part", ["comment of the file", "comment", "extra field", "between"])
def test_files_with_further_bytes_are_refused(part: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(file) as old:
        entries = [(one, old.read(one)) for one in old.infolist()]
    with zipfile.ZipFile(file, "w") as new:
        new.comment = b"x" if part == "comment of the file" else b""
        for one, content in entries:
            one.comment = b"x" if part == "comment" else b""
            one.extra = b"\x99\x99\x01\x00x" if part == "extra field" else b""
            new.writestr(one, content)
            if part == "between":
                assert new.fp is not None
                new.fp.write(b"x")
                new.start_dir += 1
    assert "found other or more bytes; don't use this file" in refused(capsys, "check", file)


def test_no_bit_of_a_file_can_change_unseen(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever bit is another: bits of all heads, which have no checksum, and of some contents."""
    good = bytearray(file.read_bytes())
    heads = [place for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for place in places_of(mark, bytes(good))]
    places = {min(head + offset, len(good) - 1) for head in heads for offset in range(4, 46, 3)}
    for number, place in enumerate(sorted({*places, *range(0, len(good), 4999)})):
        changed = bytearray(good)
        changed[place] ^= 1 << number % 8
        file.write_bytes(changed)
        refused(capsys, "check", file)
        assert "Traceback" not in capsys.readouterr().err
    file.write_bytes(good)
    printed(capsys, "check", file)


def places_of(mark: bytes, content: bytes) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(mark), content)]


SEEDS = ["[5, 5]", '["5"]', "[5.0]", "[-5]", "[true]", f"[{2**32}]", "[6, 5]"]


@pytest.mark.parametrize("seeds", SEEDS)
def test_lists_of_seeds_in_another_form_are_refused(seeds: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        entries[0] = entries[0][0], entries[0][1].replace(b'"trial_seeds": []', f'"trial_seeds": {seeds}'.encode())

    rewritten(file, change)
    refused(capsys, "check", file)


@pytest.mark.parametrize("form", ["true", "1.0", '"1"'])
def test_a_format_that_is_no_number_is_refused(form: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        entries[0] = entries[0][0], entries[0][1].replace(b'"format": 1', f'"format": {form}'.encode())

    rewritten(file, change)
    assert "expected format 1" in refused(capsys, "check", file)


@pytest.mark.parametrize("place", ["digits", "digits/ew", "digits/ew/seed-1"])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(
    place: str, there: bool, two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    if there:
        outside.mkdir()
    (into / place).parent.mkdir(parents=True)
    (into / place).symlink_to(outside)
    assert f"{place}: expected no link, found one" in refused(capsys, "merge", two[1], "--into", into)
    assert not outside.exists() or not any(outside.iterdir())


def test_nothing_is_not_called_intact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    assert "expected finished runs to check, found none" in refused(capsys, "check", tmp_path / "a")
    assert "Expected finished runs to merge, found none" in refused(
        capsys, "merge", tmp_path / "a", "--into", tmp_path / "b"
    )


def test_wrong_folders_are_named(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected another folder than" in refused(capsys, "merge", two[0], "--into", two[0])
    assert "expected a folder of results or a file" in refused(capsys, "merge", two[0] / "no", "--into", two[0])
    assert "--seeds: expected only --data and --method with --parquet" in refused(
        capsys, "export", "--parquet", two[0].parent / "p", "--seeds", "1", "--results", two[0]
    )


def test_runs_that_were_trained_apart_are_kept_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For real: each seed is trained into results of its own, and a plan of both then has nothing to train."""
    data = write_digits(tmp_path)
    for seed in (0, 1):
        spec = resolve("digits", "ew", seed=seed, assignments=SHORT)
        folder = run_folder(tmp_path / f"machine-{seed}", *spec.key)
        folder.mkdir(parents=True)
        train(spec, RunContext(data, folder, torch.device("cpu"), 1), lambda epochs: None)
    printed(capsys, "export", tmp_path / "one.zip", "--results", tmp_path / "machine-1")
    printed(capsys, "merge", tmp_path / "machine-0", tmp_path / "one.zip", "--into", tmp_path / "all")
    request = Request([StudyRow(method="ew", set=SHORT)], ["digits"], [0, 1])
    plan = make_plan(request, tmp_path, tmp_path / "all", make_data=False)
    assert len(plan.kept) == 2 and not plan.pending
