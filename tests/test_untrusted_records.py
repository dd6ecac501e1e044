"""Reports of records that somebody else wrote: nothing outside the folder, no markup of theirs, one line per error."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from record_factory import ACCURACY, make_record, make_unfinished, without_drawing, write_runs
from speed_factory import example_cells, make_cell, make_speed, make_workload

from bench import report
from bench.records.record import Labels, MetricRecord, Record, TaskRecord
from bench.records.speed import write_speed
from bench.records.store import CURVE, POSITIONS, RECORD, RecordError, run_folder
from bench.reporting.comparison import comparisons
from bench.reporting.escaping import csv_cells, md, paragraph, texlabel
from bench.reporting.figures.scores import scores_figure
from bench.reporting.figures.style import folded
from bench.reporting.figures.training import curves_figure, positions_figure
from bench.reporting.index import MARK
from bench.reporting.reports import write_reports
from bench.reporting.series import Band
from bench.reporting.speed.report import write_speed_report

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # such as overflows

MATHS, MARKUP = r"$\bad{", "<img src=x onerror=alert(1)> [a](javascript:b) `c` **d** &lt; | e"
FORMULA = '=HYPERLINK("http://x","y")'
NASTY = (MATHS, MARKUP, FORMULA, "_x", "# head", "\x1b[31m\x00red", "a\nb\r\n# c", r"\input{x}", "𝒳 ☃", "$$", r"\$a$")


def nasty_record(text: str, method: str, selection: str = "accuracy") -> Record:
    """A record in which every free text is this one."""
    metric = MetricRecord(key="accuracy", label=text, direction="higher", unit=text)
    tasks = [TaskRecord(key=key, label=f"{text}{key}", metrics=[metric]) for key in ("one", "two")]
    scores = {task.key: {"accuracy": 0.5} for task in tasks}
    record = make_record(
        "digits",
        method,
        tasks=tasks,
        selection=selection,
        labels=Labels(data=text, method=f"{text}{method}"),
        overrides={text: text, f"train.{method}": text},
        environment={"device": text, "cpu": text, "commit": text},
        selected={"epoch": 1, "rule": text, "score": 0.5},
        positions={"one": 1.0, "two": 2.0},
        **dict.fromkeys(("test", "last_test", "validation", "reference"), scores),
    )
    return record


def report_on(results: Path, out: Path) -> int:
    return report.main(["--results", str(results), "--out", str(out)])


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("text", NASTY, ids=[f"text-{number}" for number in range(len(NASTY))])
def test_texts_of_records_are_shown_and_have_no_effect(text: str, tmp_path: Path) -> None:
    records = [nasty_record(text, "EW"), nasty_record(text, "NORMAL")]
    records.append(make_unfinished("failed", text, method="UW", tasks=records[0].tasks, labels=records[0].labels))
    write_runs(tmp_path / "results", records)
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    out = tmp_path / "out"
    pages = [path.read_text(encoding="utf-8") for path in out.rglob("*.md")]
    assert len(pages) == 5  # the index, and the tables of scores, verdicts, budget and cost
    for page in pages:
        assert "\x1b" not in page and "\x00" not in page
        bare = page.replace("<sup>", "").replace("</sup>", "")
        for mark in ("<img", "[a](", "$", "`c`", "**d**", "&lt;"):
            assert all(bare[place - 1] == "\\" for place in range(len(bare)) if bare.startswith(mark, place)), mark
        headings = [line for line in page.splitlines() if line.startswith("#")]
        assert {line.split()[0] for line in headings} <= {"#", "##"} and len(headings) <= 3, headings
        tables = [line for line in page.splitlines() if line.startswith("|")]
        assert all(line.replace("\\|", "").count("|") >= 2 for line in tables)
    for path in out.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as lines:
            cells = [cell for row in csv.reader(lines) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@")) or cell.startswith("-h")], path


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("selection", ["accuracy", "gain"])
def test_texts_of_records_stop_no_figure(selection: str, tmp_path: Path) -> None:
    text = f" {MATHS} ".join(NASTY)
    plain = nasty_record(text, "EW", selection).model_copy(update={"overrides": {}})
    (comparison,) = comparisons([plain, nasty_record(text, "NORMAL", selection)])
    line = np.array([0.0, 1.0])
    band = Band(line, line, line, line)
    figures = {
        "scores": scores_figure(comparison),
        "curves": curves_figure(comparison, {variant.key: band for variant in comparison.variants}),
        "positions": positions_figure(comparison, {task.key: band for task in comparison.tasks}),
    }
    for name, figure in figures.items():
        assert figure is not None
        figure.set_dpi(20)
        figure.savefig(tmp_path / f"{name}.png", dpi=20)


def test_a_legend_has_labels_that_start_with_an_underscore() -> None:
    assert folded("_x (a=1, b=2)") == " _x\n(a=1,\n b=2)"


def test_numbers_stay_numbers_for_pandas(tmp_path: Path) -> None:
    record = make_record("rooms", test={"segmentation": {"miou": 0.5, "pixacc": 0.5}, **ROOMS_REST})
    write_runs(tmp_path, [record])
    with without_drawing():
        assert report_on(tmp_path, tmp_path / "out") == 0
    runs = pandas.read_csv(tmp_path / "out" / "run-scores.csv")
    assert runs["test"].dtype == float and runs["seed"].dtype == int and -1e-05 in set(runs["test"])
    scores = pandas.read_csv(tmp_path / "out" / "rooms" / "scores.csv")
    assert scores["mean"].dtype == float and scores["n"].dtype == int
    assert csv_cells(["=1+1", "-", "@x", "+1", "a=1", -0.5, 3, None, "x\ny"]) == [
        "'=1+1", "'-", "'@x", "'+1", "a=1", "-0.5", "3", "", "x y",
    ]  # fmt: skip


ROOMS_REST = {
    "depth": {"abs": -1e-05, "rel": float("inf")},
    "normal": {"mean": 25.0, "median": float("nan"), "within11": 0.3, "within22": 0.5, "within30": 0.6},
}


def test_markdown_of_lines_and_of_paragraphs() -> None:
    assert md("a $x$ &lt; A & B") == r"a \$x\$ \&lt; A & B"
    for text, shown in (("# a", r"\# a"), ("- a", r"\- a"), ("1. a", r"1\. a"), ("> a", r"\> a"), ("a # b", "a # b")):
        assert paragraph(text) == shown
    assert texlabel(r"tab:x}\input{y_z-1.0@+") == "tab:x-input-y_z-1.0@+"


NUMBERS = b"epoch,step,seconds,score\n1,inf,1,inf\n2,-1,nan,-inf\n3,3,3,nan\n10,1e300,1e300,1e300"


def test_curves_of_any_content_end_in_a_line_or_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    write_runs(results, [make_record(), make_record(method="NORMAL")])
    curve = run_folder(results, "digits", "ew", 0) / CURVE
    intact = curve.read_bytes()

    def replaced(content: bytes) -> Callable[[], object]:
        return lambda: curve.write_bytes(content)

    faults: tuple[tuple[Callable[[], object], str], ...] = (
        (curve.mkdir, "expected a file, found a folder"),
        (lambda: os.mkfifo(curve), "expected a file, found a pipe"),
        (lambda: curve.symlink_to(curve), "expected a file, found a link that leads nowhere"),
        (replaced(b"\xff\xfe\x00"), "expected a table in CSV"),
        (replaced(b'epoch,step,seconds,score\n1,1,1,"'), "expected a table in CSV"),
        (replaced(b"epoch,step,seconds,score\n1,1,1," + b"9" * 5_000), ""),
        (replaced(b"epoch,step,seconds,score\n1,1,1,x"), "expected numbers in column 'score'"),
        (replaced(NUMBERS), ""),
        (replaced(b"epoch,step,seconds,score\n1e300,1,1,1"), "expected 10 epochs, as the record says, found 1e+300"),
        (replaced(b"epoch,step,seconds,score\n"), "expected numbers in column 'epoch'"),
        (replaced(b"epoch,step,seconds,score\n,,,\n"), "found none"),
    )
    for make, message in faults:
        curve.rmdir() if curve.is_dir() else curve.unlink(missing_ok=True)
        make()
        with without_drawing():
            code = report_on(results, tmp_path / "out")
        lines = capsys.readouterr().err.splitlines()
        if message:
            assert code == 2 and len(lines) == 1 and str(curve) in lines[0] and message in lines[0], message
        else:
            assert code in (0, 2) and len(lines) == (code == 2), lines
    replaced(NUMBERS)()
    assert report_on(results, tmp_path / "out") == 0
    curve.rmdir() if curve.is_dir() else curve.unlink()
    curve.write_bytes(intact)
    (run_folder(results, "digits", "normal", 0) / POSITIONS).write_text("step,plain\n")
    assert report_on(results, tmp_path / "out") == 2
    assert "expected a column 'colour'" in capsys.readouterr().err


def test_all_bad_records_are_named_and_nothing_is_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    write_runs(results, [make_record(seed=seed) for seed in range(3)])
    bad = [run_folder(results, "digits", "ew", seed) / RECORD for seed in (0, 2)]
    for path in bad:
        path.write_text("[" * 100_000)
    speed = write_speed(results / "speed", make_speed(example_cells()))
    speed.rename(speed.with_name("other.json"))
    before = files_below(tmp_path)
    assert report_on(results, tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(str(path) in line for path, line in zip(bad, lines, strict=False))
    assert "expected the machine 'other', as the file is named, found 'bench-1'" in lines[2]
    assert files_below(tmp_path) == before


def test_a_path_with_a_part_from_a_record_stays_below_the_folder(tmp_path: Path) -> None:
    """Even if a record was changed after it was read."""
    out = tmp_path / "out"
    tasks = [TaskRecord(key="one", label="One", metrics=[ACCURACY.model_copy(update={"key": "../../esc"})])]
    many = [tasks[0].model_copy(update={"key": f"task{number}"}) for number in range(20)]
    for change in ({"data": "../../../esc"}, {"data": ".."}, {"data": ""}, {"data": "/tmp/x"}, {"tasks": many}):
        record = make_record().model_copy(update=change)
        with pytest.raises((ValueError, RecordError)), without_drawing():
            write_reports(tmp_path, [record], out)
    speed = make_speed(example_cells()).model_copy(update={"machine": "../x"})
    with pytest.raises(ValueError, match="expected a name"), without_drawing():
        write_reports(tmp_path, [], out, speeds=[speed])
    workload = make_workload().model_copy(update={"key": "../../x"})
    with pytest.raises(ValueError, match="expected a name"), without_drawing():
        write_speed_report(make_speed([make_cell("ew", "ours", [1], workload="../../x")], [workload]), out / "speed")
    with pytest.raises(ValueError, match="expected a name"):
        write_speed(out, speed)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents]
    assert comparisons([make_record()])[0].places == ("digits",)


def test_a_readme_that_is_not_an_index_of_reports_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    write_runs(results, [make_record()])
    out.mkdir()
    (out / "README.md").write_text("# My project\n\nThe reports here are made by `python -m bench.report`.\n")
    before = files_below(tmp_path)
    with without_drawing():
        assert report_on(results, out) == 2
    error = capsys.readouterr().err
    assert "expected an index of reports, found another text" in error and len(error.splitlines()) == 1
    assert files_below(tmp_path) == before
    (out / "README.md").unlink()
    with without_drawing():
        assert report_on(results, out) == 0 == report_on(results, out)
    assert MARK in (out / "README.md").read_text(encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    for option in ("--out", "--results"):
        with pytest.raises(SystemExit) as stop:
            report.main(["--results", str(results), option, ""])
        assert stop.value.code == 2
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": "../x"}, "machine: expected a name"),
        ({"threads": 0}, "threads: "),
        ({"shapes": [make_workload().model_dump(mode="json") | {"key": "../x"}]}, "shapes.0: expected a name"),
        ({"shapes": []}, "cells: expected shapes of the measurement, found 'office'"),
    ],
)
def test_measurements_that_contradict_themselves_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_speed(tmp_path / "speed", make_speed(example_cells()))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert report_on(tmp_path, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and str(path) in error and len(error.splitlines()) == 1


def test_labels_of_measurements_are_shown_as_they_are(tmp_path: Path) -> None:
    cells = [make_cell("ew", who, [10, 20], "one", label=f"{MATHS}{MARKUP}") for who in ("ours", MATHS)]
    cells.append(make_cell("mgda", FORMULA, [], error=FORMULA, label=FORMULA))
    record = make_speed(cells, [make_workload(label=MATHS)], settings={MATHS: FORMULA}, environment={"cpu": MARKUP})
    for path in write_speed_report(record, tmp_path):
        assert path.stat().st_size > 0
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "<img" not in page.replace("\\<img", "") and "$" not in page.replace("\\$", "")
    with (tmp_path / "speed.csv").open(encoding="utf-8", newline="") as lines:
        assert not [cell for row in csv.reader(lines) for cell in row if cell.startswith(("=", "@"))]
