"""Curves that contradict their records, or stop reports, are refused by bench.runs merge, check and export FILE."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_cases import made, printed, refused, write_runs

from bench.exchange.finding import find_shared
from bench.records.again import AGAIN
from bench.records.record import Selected
from bench.records.store import CURVE, RECORD, run_folder, write_record

SCORE = "validation/plain/accuracy"
RESULTS = Path(__file__).parents[1] / "results"


def of_row(row: str) -> Callable[[str], str]:
    """The second row of a curve with another epoch."""
    return lambda text: text.replace("\n2,", f"\n{row},")


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    **{f"epoch {cell or 'empty'}": (of_row(cell), "the epochs 1 to 10") for cell in ("1", "", "-7", "inf", "2.5")},
    "a score column is missing": (lambda text: text.replace("score", "other"), "expected a column 'score'"),
    "a step column is missing": (lambda text: text.replace(",step", ",steps"), "expected a column 'step'"),
    "a column twice": (lambda text: text.replace("seconds", "epoch"), "a name of its own, found one twice"),
    "a column without a name": (lambda text: text.replace("seconds", ""), "a name of its own, found one twice or none"),
    "a formula": (lambda text: text.replace("train/plain", "=cmd()|x"), "expected names of columns, found '=cmd()|x'"),
    "quotes": (lambda text: text.replace("train/plain", '"x"'), "expected names of columns"),
    "digits of Python": (of_row("2_0"), "expected a table of numbers in CSV"),
    "an open line": (lambda text: text[:-1], "expected lines that end"),
    "other steps": (lambda text: text.replace("10,100,", "10,99,"), "expected 100 steps at the end, as the record"),
    "another row": (
        lambda text: text + text.splitlines()[-1].replace("10,100,", "11,110,") + "\n",
        "each of the 10 epochs of the record, found 11",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_curves_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made()])
    path = run_folder(tmp_path / "a", "digits", "ew", 0) / CURVE
    change, message = BAD[name]
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    for words in (
        ["check", tmp_path / "a"],
        ["merge", tmp_path / "a", "--into", tmp_path / "b"],
        ["export", tmp_path / "a.zip", "--results", tmp_path / "a"],
    ):
        assert message in refused(capsys, *words)
    assert not (tmp_path / "b").exists() and not (tmp_path / "a.zip").exists()


def test_a_run_that_is_done_has_its_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [made()])
    (run_folder(tmp_path, "digits", "ew", 0) / CURVE).unlink()
    assert "expected this table of a run that is done, found none" in refused(capsys, "check", tmp_path)


def test_the_selected_epoch_of_the_curve_has_the_scores_of_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = made()
    write_runs(tmp_path, [record])
    assert record.selected is not None
    path = run_folder(tmp_path, "digits", "ew", 0) / CURVE
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]

    def write(column: str, cell: str) -> None:
        changed = [list(row) for row in rows]
        if column:
            changed[record.selected.epoch - 1][head.index(column)] = cell  # type: ignore[union-attr]
        path.write_text("".join(f"{','.join(row)}\n" for row in (head, *changed)))

    write("", "")
    printed(capsys, "check", tmp_path)
    for column in (SCORE, "score"):
        for cell in ("0.900000001", "", "inf"):
            write(column, cell)
            assert f"{column}: expected 0.9 at the selected epoch 8" in refused(capsys, "check", tmp_path)
    place = head.index(SCORE)
    path.write_text("".join(f"{','.join(row[:place] + row[place + 1 :])}\n" for row in (head, *rows)))
    assert f"expected a column '{SCORE}'" in refused(capsys, "check", tmp_path)


def test_scores_that_a_record_lacks_are_not_in_its_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [made()])
    bare = made().model_copy(update={"validation": {}, "selected": Selected(epoch=8, rule="r", score=0.99)})
    write_record(run_folder(tmp_path, "digits", "ew", 0), bare)
    assert f"{SCORE}: expected nan at the selected epoch 8" in refused(capsys, "check", tmp_path)


def test_a_score_that_is_not_a_number_is_an_empty_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = made()
    write_runs(tmp_path, [record])
    validation = {**record.validation, "plain": {"accuracy": math.nan}}
    nan = Selected(epoch=8, rule="highest mean score on validation", score=math.nan)
    write_record(
        run_folder(tmp_path, "digits", "ew", 0), record.model_copy(update={"validation": validation, "selected": nan})
    )
    path = run_folder(tmp_path, "digits", "ew", 0) / CURVE
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    for column in (SCORE, "score"):
        rows[7][head.index(column)] = ""
    path.write_text("".join(f"{','.join(row)}\n" for row in (head, *rows)))
    printed(capsys, "check", tmp_path)


def test_a_bad_run_is_not_in_the_way_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made(), made(seed=1)])
    (run_folder(tmp_path / "a", "digits", "ew", 0) / CURVE).unlink()
    printed(capsys, "export", tmp_path / "x.zip", "--results", tmp_path / "a", "--seeds", "1")
    assert "2 runs" not in printed(capsys, "check", tmp_path / "x.zip")
    refused(capsys, "export", tmp_path / "y.zip", "--results", tmp_path / "a")


def test_a_run_whose_new_files_are_half_moved_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made(), made("UW")])
    write_record(run_folder(tmp_path / "a", "digits", "ew", 0) / AGAIN, made())
    out = printed(capsys, "merge", tmp_path / "a", "--into", tmp_path / "b")
    assert "digits/ew/seed-0: trained again, its new files are in again" in out and "Merged 1 run" in out


def test_runs_without_a_fingerprint_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made(), made("UW", fingerprint={})])
    message = "digits: no fingerprint says which images digits/uw/seed-0 saw"
    assert message in printed(capsys, "check", tmp_path / "a")
    assert message in printed(capsys, "merge", tmp_path / "a", "--into", tmp_path / "b")
    assert message in printed(capsys, "export", tmp_path / "b.zip", "--results", tmp_path / "b")


@pytest.mark.slow
def test_the_reference_results_pass() -> None:
    """Every folder of results in this repository: the runs of each, and of each study below it."""
    counted = 0
    for results in {path.parents[3] for path in RESULTS.glob(f"**/seed-*/{RECORD}")}:
        source = find_shared(results)
        assert not source.errors
        counted += len(source.runs)
    records = [json.loads(path.read_text()) for path in RESULTS.glob(f"**/seed-*/{RECORD}")]
    assert counted == sum(record["status"] != "failed" for record in records) > 2000
