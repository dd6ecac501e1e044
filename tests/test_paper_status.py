"""What the paper's tables say of the records they are made from: which rows are whole, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from paper_records import ablation_records, paper_records, report_on, rows_of
from record_factory import make_unfinished, without_drawing, write_runs

from bench import ROOT
from bench.records.record import Record
from bench.reporting.figures.lines import MOST_LINES
from bench.reporting.paper.layout import TABLE1, TABLE2

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


COMMAND = "python -m bench.run --study paper --data office31"


def status_of(index: str) -> list[str]:
    """Rows of the paper, other rows, seeds and what is to be done of Table 1 on Office-31."""
    line = next(line for line in index.splitlines() if line.startswith("| Table 1 | Office-31 |"))
    cells = [cell.strip() for cell in line.split("|")[3:-1]]
    return [*cells[:3], cells[4]]


def test_a_table_lacks_the_seeds_that_its_study_asks_for(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [run for run in office31() if run.seed == 0])
    assert status_of(report(tmp_path / "results", tmp_path / "out")) == ["9 of 9", "0", "0 (of 0, 1, 2)", COMMAND]


def test_seeds_of_another_row_leave_the_rows_of_the_paper_whole(tmp_path: Path) -> None:
    runs = office31()
    own = with_settings(runs[0], "ew@own", train__lr=0.5).model_copy(update={"seed": 9})
    write_runs(tmp_path / "results", [*runs, own])
    write_runs(tmp_path / "without", runs)
    index = report(tmp_path / "results", tmp_path / "out")
    report(tmp_path / "without", tmp_path / "alone")
    assert status_of(index) == ["9 of 9", "1", "0, 1, 2", "nothing"]
    rows, alone = (rows_of(tmp_path / out / "table1.md") for out in ("out", "alone"))
    assert rows[:10] == alone and any(cell.startswith("**") for cell in rows[9]) and "**" not in "".join(rows[10])
    text = (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")
    assert "over n=3 seeds" in text and "seed 9 not run" not in text
    assert "seeds 0, 1, 2 not run" in text and "with seed 9, which the paper's rows lack" in text


def test_a_diverged_run_is_not_trained_again(tmp_path: Path) -> None:
    lost = make_unfinished("diverged", "the loss is nan").model_dump()
    changes = {key: lost[key] for key in ("status", "reason", "validation", "test", "last_test", "selected")}
    runs = [run.model_copy(update=changes) if (run.method, run.seed) == ("uw", 1) else run for run in office31()]
    write_runs(tmp_path / "results", runs)
    assert status_of(report(tmp_path / "results", tmp_path / "out"))[3] == "nothing; 1 run diverged"


def test_seeds_of_other_rows_hide_no_candidate_of_an_ablation(tmp_path: Path) -> None:
    runs = ablation_records(["office31"])
    fixed = next(run for run in runs if "arch.initial_positions" in run.overrides and run.seed == 0)
    write_runs(tmp_path / "results" / "ablation", runs)
    write_runs(tmp_path / "results" / "ablation", [with_settings(fixed, "normal@9").model_copy(update={"seed": 9})])
    report(tmp_path / "results", tmp_path / "out")
    assert "of 6, 1 of them finished" in (tmp_path / "out" / "table4.md").read_text(encoding="utf-8")


def ablated(seeds: int = 3) -> list[Record]:
    """Positive positions, as in Table 4, but with another learning rate: a row that Table 4 doesn't have."""
    settings = {"arch__position_form": "positive", "train__lr": 0.5}
    return [with_settings(run, "normal@x", **settings) for run in office31("normal")[:seeds]]


LABEL = "NORMAL (arch.position_form=positive, train.lr=0.5)"


def test_what_table_4_does_not_show_is_in_table_1(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [*office31(), *ablation_records(["office31"]), *ablated()])
    index = report(tmp_path / "results", tmp_path / "out")
    names = {name: [row[0] for row in rows_of(tmp_path / "out" / f"{name}.md")] for name in ("table1", "table4")}
    assert names["table1"][-2:] == ["NORMAL", f"*{LABEL}*"]
    assert len(names["table4"]) == 9 and "Left out" not in index


def test_what_no_table_shows_is_named(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", office31())
    write_runs(tmp_path / "results" / "ablation", [*ablation_records(["office31"]), *ablated(1)])
    nyuv2 = [run for run in paper_records(TABLE2) if run.method == "uw"]
    write_runs(tmp_path / "results" / "ablation", nyuv2)
    index = report(tmp_path / "results", tmp_path / "out").replace("\\", "")
    told = "among the records of Table 4, which doesn't show them"
    assert f"Left out: rows on Office-31 {told}: {LABEL}." in index
    assert f"Left out: rows on NYUv2 {told}: UW." in index and index.count("Left out") == 2


def test_candidates_of_a_row_are_neither_shown_twice_nor_left_out(tmp_path: Path) -> None:
    orders = [run for run in ablation_records(["office31"]) if "arch.initial_positions" in run.overrides]
    other = [
        with_settings(run, "normal@2", arch__position_form="constant", arch__initial_positions=[1.5, 1.0, 1.25])
        for run in orders
        if len(set(run.overrides["arch.initial_positions"])) == 3
    ]
    write_runs(tmp_path / "results", [*office31(), *ablation_records(["office31"]), *other])
    index = report(tmp_path / "results", tmp_path / "out")
    assert "of 6, 2 of them finished" in index and "Left out" not in index
    assert [row[0] for row in rows_of(tmp_path / "out" / "table1.md")][-1] == "NORMAL"
