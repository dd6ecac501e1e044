"""The report as a whole: files, LaTeX that compiles, the same bytes again, clear refusals."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from record_factory import make_record, make_study, make_unfinished, write_runs

from bench import ROOT
from bench.records.record import Labels, Record
from bench.records.store import CURVE, run_folder
from bench.report import main
from bench.reporting.render import ACCENTED, LATEX, latex, md, tex
from bench.reporting.study import studies
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

WITHOUT_TORCH = """
import sys
from bench.report import main
code = main(sys.argv[1:])
loaded = {"torch", "methods", "datasets"} & set(sys.modules)
print(*loaded, file=sys.stderr)
sys.exit(code or len(loaded))
"""
NASTY = r"50% of a_b & #1 ~ $x^2$ {c} \d <e> |f| [g] *h* `i` -- 'loss' ≥ 1 ‖g‖"


def example_records() -> list[Record]:
    records = make_study("digits", ("EW", "CAGrad", "NORMAL"), (0, 1))
    records.append(make_unfinished("diverged", NASTY, method="MGDA", seed=0, order=records[0].order))
    return records + make_study("rooms", ("EW", "NORMAL"), (0, 1)) + make_study("faces", ("EW", "NORMAL"), (0, 1))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_runs(folder, example_records())
    return folder


@pytest.fixture(scope="module")
def reports(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    assert main(["--results", str(results), "--out", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_tables_and_figures_of_every_data_set(reports: Path) -> None:
    names = set(contents(reports))
    for data in ("digits", "rooms", "faces"):
        for stem in ("scores", "cost"):
            assert {f"{data}/{stem}.{end}" for end in ("tex", "md", "csv")} <= names
        for stem in ("scores", "curves", "positions-normal"):
            assert {f"{data}/{stem}.{end}" for end in ("pdf", "png")} <= names
    assert {"faces/tasks-accuracy.tex", "faces/tasks-f1.csv", "runs.csv", "README.md"} <= names


def test_the_index_says_what_ran_and_leads_to_every_file(reports: Path) -> None:
    index = (reports / "README.md").read_text(encoding="utf-8")
    assert "| Digits | 4 | EW, MGDA, CAGrad, NORMAL | 0, 1 | 6 | 1 | 0 | 1 |" in index
    assert "| Digits | MGDA | 0 | diverged | 50% of a_b & #1" in index
    assert "| 15 | cpu | a CPU | 1 | 2.0 | 3.11 | 0123abc |" in index
    assert "Epoch selection: highest mean score on validation." in index
    links = set(re.findall(r"\]\(([^)]+)\)", index))
    assert links == set(contents(reports)) - {"README.md"}


def test_the_same_records_give_the_same_bytes_without_torch(results: Path, reports: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Pacific/Auckland"}
    command = [sys.executable, "-c", WITHOUT_TORCH, "--results", str(results), "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'README.md'}\n" in done.stdout
    again, before = contents(tmp_path), contents(reports)
    assert again.keys() == before.keys()
    assert [name for name in before if again[name] != before[name]] == []


def test_only_the_named_data(results: Path, tmp_path: Path) -> None:
    assert main(["--results", str(results), "--out", str(tmp_path), "--data", "DIGITS", "--spread"]) == 0
    assert {name.split("/")[0] for name in contents(tmp_path)} == {"README.md", "runs.csv", "digits"}
    assert " ± " in (tmp_path / "digits" / "scores.md").read_text(encoding="utf-8")


def test_positions_of_chosen_tasks(results: Path, reports: Path, tmp_path: Path) -> None:
    arguments = ["--results", str(results), "--out", str(tmp_path), "--data", "faces"]
    assert main([*arguments, "--tasks", "smiling", "bald"]) == 0
    drawn, usual = ((folder / "faces" / "positions-normal.png").read_bytes() for folder in (tmp_path, reports))
    assert drawn != usual and main([*arguments, "--tasks", "smilling"]) == 2


@pytest.mark.parametrize("name", ["nothing-here", ""])
def test_no_records_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "found none; run `python -m bench.run" in captured.err


def test_unknown_data_is_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(results), "--out", str(tmp_path), "--data", "moons"]) == 2
    assert (
        "Unknown data set among the records 'moons'. Did you mean 'rooms'? Known: digits, rooms, faces."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ['{"schema_version": 1, "status"', '{"schema_version": 99}', '{"schema_version": 1}'])
def test_an_unreadable_record_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record()])
    bad = run_folder(tmp_path, "digits", "ew", 1) / "record.json"
    bad.parent.mkdir()
    bad.write_text(text, encoding="utf-8")
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert str(bad) in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "epoch,step\n1,2\n", "epoch,score\n1,much\n"])
def test_an_unreadable_curve_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record()])
    bad = run_folder(tmp_path, "digits", "ew", 0) / CURVE
    bad.write_text(text, encoding="utf-8")
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert str(bad) in capsys.readouterr().err


def test_runs_without_curves_still_make_tables(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [make_unfinished("failed", "no memory"), make_record(seed=1)])
    for curve in (tmp_path / "results").rglob(CURVE):
        curve.unlink()
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "digits" / "curves.pdf").exists()


def test_published_numbers_stand_beside_ours_on_the_page_alone(tmp_path: Path) -> None:
    record = make_record(data="digits").model_copy(
        update={"data": "office31", "labels": Labels(data="Office-31", method="EW")}
    )
    write_runs(tmp_path / "results", [record])
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    index = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "published (Ye et al., IJCAI 2023), not comparable: other splits, other code" in index
    assert "| NORMAL | 86.32 | 99.18 | 98.88 | 94.80 |" in index
    assert "86.32" not in (tmp_path / "out" / "office31" / "scores.tex").read_text(encoding="utf-8")


def all_latex() -> list[str]:
    found = [latex(table) for study in studies(example_records()) for table in score_tables(study, True)]
    every_character = " ".join((*LATEX, *ACCENTED, NASTY, "ψ", "\x1b"))
    label = f"[*] {NASTY}"
    row = Row(Head(label, (every_character,)), (Cell("-0.10 ± 0.20", bold=True), Cell(notes=("other",))))
    columns = (Column(Head("A_b & c ↑")), Column(Head("Δ_b (%)"), "left"))
    return [*found, latex(Table("odd", "tab:odd", every_character, "#1", (), columns, (row, row)))]


@pytest.mark.parametrize("text", all_latex())
def test_latex_is_balanced(text: str) -> None:
    bare = re.sub(r"\\[{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{")
    for rule in ("toprule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    columns = re.search(r"\\begin{tabular}{([lr]+)}", bare)
    assert columns is not None
    body = bare[bare.index(r"\toprule") : bare.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    for line in rows:
        spans = sum(int(span) - 1 for span in re.findall(r"\\multicolumn{(\d+)}", line))
        assert line.count("&") + spans + 1 == len(columns[1]), line


def test_nothing_is_left_for_latex_or_markdown_to_act_upon() -> None:
    assert tex("a_b & 50% #1") == r"a\_b \& 50\% \#1"
    assert tex("Δ_b ± 2 ↑") == r"$\Delta_b$ $\pm$ 2 $\uparrow$"
    assert tex("ψ") == "{[}U+03C8{]}"
    assert md("a|b *c* 5_o_Clock\n<d>") == r"a\|b \*c\* 5_o_Clock \<d>"


def compile_latex(tables: Sequence[str], packages: str, folder: Path) -> str:
    """The log of pdflatex for a bare article."""
    body = "\n\\clearpage\n".join(tables)
    source = f"\\documentclass{{article}}\n\\usepackage{{{packages}}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "tables.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_in_a_bare_article(tmp_path: Path) -> None:
    texts = all_latex()
    narrow = [text for text in texts if "graphicx" not in text]
    assert 0 < len(narrow) < len(texts)
    compile_latex(narrow, "booktabs", tmp_path)
    log = compile_latex(texts, "booktabs,graphicx", tmp_path)
    assert "Overfull" not in log
