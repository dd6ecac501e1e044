"""Records and reports that are valid and odd: extreme numbers, escape sequences, links, what killed reports left."""

from __future__ import annotations

import json
import math
import os
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record, make_study, make_unfinished, without_drawing, write_runs

from bench import report
from bench.cli.options import assignment, plain_console
from bench.cli.output import say
from bench.cli.progress import outcome_line
from bench.records.record import Record, Selected
from bench.records.store import CURVE, RECORD, RecordError, read_run, run_folder, set_aside
from bench.reporting.comparison import comparisons
from bench.reporting.output_folder import ABANDONED
from bench.reporting.planned import PlannedRow, PlannedTable, arranged
from bench.reporting.statistics import deviation, mean
from bench.run import main as run
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # such as overflows

ESCAPE = "\x1b]0;x\x07\u202e"


def report_on(results: Path, out: Path, *options: str) -> int:
    with without_drawing():
        return report.main(["--results", str(results), "--out", str(out), *options])


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("values", [(1.7e308, 1.7e308), (-1e308, 1e308), (math.inf, -math.inf), (5e-324, 1e308)])
def test_statistics_of_extreme_numbers(values: tuple[float, float]) -> None:
    centre = mean(values)
    assert math.isnan(centre) or min(values) <= centre <= max(values)
    spread = deviation(values)
    assert spread is not None and (math.isnan(spread) or spread >= 0)


def test_scores_of_any_size_are_reported(tmp_path: Path) -> None:
    records = make_study("rooms", ("EW", "MGDA"), (0, 1))
    for record in records:
        for scores in record.test.values():
            free = scores.keys() & {"abs", "rel", "mean", "median"}  # all others are shares
            scores.update(dict.fromkeys(free, -1.7e308 if record.seed else 1.7e308))
    write_runs(tmp_path / "results", records)
    assert report_on(tmp_path / "results", tmp_path / "out", "--ci") == 0


@pytest.mark.parametrize("part", ["validation", "versions", "positions"])
def test_messages_on_records_have_no_effect_on_the_terminal(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path, [make_record()])
    value: object = {"plain": {f"{ESCAPE}\nx": "x"}} if part == "validation" else {f"{ESCAPE}\nx": "x"}
    change(run_folder(tmp_path, "digits", "ew", 0) / RECORD, **{part: value})
    assert report_on(tmp_path, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.rstrip("\n").isprintable() and "[U+001B]" in error


def test_nothing_printed_has_an_effect_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = outcome_line(make_unfinished("failed", f"CUDA error {ESCAPE}\n\nCompile with"))
    assert line == "digits ew seed 0: failed: CUDA error [U+001B]]0;x[U+0007][U+202E] Compile with"
    plain_console().print(f"one{ESCAPE}\ntwo")
    say(f"one{ESCAPE}\ntwo")
    for text in capsys.readouterr():
        assert text == "one[U+001B]]0;x[U+0007][U+202E]\ntwo\n"


def test_a_link_to_another_run_moves_nothing(tmp_path: Path) -> None:
    write_runs(tmp_path, [make_record()])
    first = run_folder(tmp_path, "digits", "ew", 0)
    before = (first / RECORD).read_bytes()
    other = first.with_name("seed-1")
    other.symlink_to(first.name)
    for read in (read_run, set_aside):
        with pytest.raises(RecordError, match="found a link to that of another run"):
            read(other)
    assert (first / RECORD).read_bytes() == before
    (tmp_path / "elsewhere").symlink_to(tmp_path)  # links to whole folders are fine
    assert read_run(run_folder(tmp_path / "elsewhere", "digits", "ew", 0)) is not None


def test_a_curve_with_more_cells_than_heads_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record()])
    (run_folder(tmp_path, "digits", "ew", 0) / CURVE).write_text("epoch,score\n1,2,0.5\n2,3,0.6\n")
    assert report_on(tmp_path, tmp_path / "out") == 2
    assert "expected a table in CSV, found Length of header" in capsys.readouterr().err


def test_the_curve_of_another_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has the same epochs and other scores."""
    for method, score in (("EW", 0.8), ("UW", 0.9)):
        selected = Selected(epoch=2, rule="highest", score=score)
        write_runs(tmp_path, [make_record("digits", method, seed, selected=selected) for seed in (0, 1)])
    place, other = (run_folder(tmp_path, "digits", method, 1) / CURVE for method in ("ew", "uw"))
    place.write_bytes(other.read_bytes())
    capsys.readouterr()
    assert report_on(tmp_path, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{place}: score: expected 0.8 at the selected epoch 2, as the record says, found 0.9; ")
    assert not (tmp_path / "out").exists()


def test_tables_of_an_earlier_report_may_be_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    write_runs(results, [make_record(), make_record("rooms")])
    assert report_on(results, out) == 0
    (out / "rooms" / "scores.md").write_bytes(b"\xff\xfe")
    assert report_on(results, out, "--data", "digits") == 2
    assert "scores.md: expected text in UTF-8" in capsys.readouterr().err


def test_what_killed_reports_left_is_removed_and_what_others_write_stays(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    write_runs(results, [make_record()])
    (out / "digits").mkdir(parents=True)
    places = [folder / f".scores.png.{age}.tmp" for folder in (out, out / "digits") for age in ("old", "new")]
    for path in places:
        path.touch()
        if ".old." in path.name:
            os.utime(path, (0, time.time() - 2 * ABANDONED))
    assert report_on(results, out) == 0
    assert [path.exists() for path in places] == [False, True, False, True]


def test_the_best_on_validation_is_never_one_without_a_score() -> None:
    def chosen(score: float, lr: float) -> Record:
        selected = Selected(epoch=1, rule="highest", score=score)
        return make_record(variant=f"ew@{lr}", overrides={"train.lr": lr}, selected=selected)

    (comparison,) = comparisons([chosen(math.nan, 0.1), chosen(0.5, 0.2), chosen(0.4, 0.3)])
    row = PlannedRow("best", tuple(("ew", {"train.lr": lr}) for lr in (0.1, 0.2, 0.3)))
    (part,) = arranged(comparison, [PlannedTable("table", "A table", (row,))])
    assert part.variants[0].key == "ew@0.2"


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "train.lr=1", "train.lr=2"),
        ("--set", "train.lr=1", "train.LR=2"),
        ("--set", "train.lr=1", "--set", "Train.lr=2"),
        ("--set", "train.epochs=5", "--epochs", "4"),
    ],
)
def test_a_setting_with_two_values_is_refused(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path)]
    assert run(["--method", "ew", "--data", "digits", "--seeds", "0", "--dry-run", *folders, *words]) == 2
    assert "expected one value, found" in capsys.readouterr().err


def test_the_same_value_twice_is_one_value() -> None:
    assert resolve("digits", "ew", assignments={"train.lr": 0.5, "train.LR": 0.5}).overrides == {"train.lr": 0.5}
    with pytest.raises(SpecError, match="expected one value, found 1 and 2"):
        resolve("digits", "ew", assignments={"train.lr": 1, "TRAIN.lr": 2})


@pytest.mark.parametrize("text", ["010", "-010", "0_1", "1:30", "1:30.5"])
def test_numbers_that_yaml_reads_in_another_base_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected a decimal number, found"):
        assignment(f"train.epochs={text}")
    known = {"10": 10, "0": 0, "-0.5": -0.5, "1_000": 1000, "0x10": 16}
    assert {number: assignment(f"a.b={number}")[1] for number in known} == known
