"""What the paper's tables say of the records they are made from: which rows are whole, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from paper_records import paper_records
from record_factory import without_drawing, write_runs
from test_paper_tables import report_on, rows_of

from bench import ROOT
from bench.records.record import Record
from bench.reporting.figures.lines import MOST_LINES
from bench.reporting.paper.layout import TABLE1

NUMBERS = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]))


def office31(*methods: str) -> list[Record]:
    """The runs on Office-31, of all methods or of some."""
    return [run for run in paper_records(TABLE1, ["office31"]) if not methods or run.method in methods]


def with_settings(run: Record, variant: str, **overrides: object) -> Record:
    """The run as one with settings of its own; their names have __ for the dot."""
    own = {key.replace("__", "."): value for key, value in overrides.items()}
    return run.model_copy(update={"variant": variant, "overrides": own})


def report(results: Path, out: Path) -> str:
    """The index of a report on these results."""
    with without_drawing():
        assert report_on(results, out) == 0
    return (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "options",
    [
        ["--methods", "nosuch"],
        ["--exclude", "EW"],
        ["--order", "score"],
        ["--decimals", "0"],
        ["--per-task"],
        ["--data", "office31"],
    ],
)
def test_options_without_effect_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        report_on(tmp_path / "results", tmp_path / "out", *options)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and not (tmp_path / "out").exists()
    assert f"{options[0]}: expected no " in error and "beside --paper" in error and error.count("\n") == 1


def test_all_other_rows_are_in_italics(tmp_path: Path) -> None:
    runs = office31("ew", "uw")
    tuned = [with_settings(run, f"uw@{lr}", train__lr=lr) for run in runs if run.method == "uw" for lr in (0.1, 0.2)]
    write_runs(tmp_path / "results", [*runs, *tuned])
    report(tmp_path / "results", tmp_path / "out")
    names = [row[0] for row in rows_of(tmp_path / "out" / "table1.md")]
    assert names[-2:] == ["*UW (train.lr=0.1)*", "*UW (train.lr=0.2)*"] and names[-3] == "NORMAL"


def test_the_page_counts_the_lines_of_figure_2() -> None:
    text = " ".join((ROOT / "docs" / "paper.md").read_text(encoding="utf-8").split())
    assert f"Of CelebA's 40 attributes {NUMBERS[MOST_LINES]} are drawn" in text
