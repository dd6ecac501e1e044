"""The report as a whole: files, LaTeX that compiles, the same bytes for the same records, clear error messages."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_factory import NASTY, example_records, make_record, make_study, make_unfinished, without_drawing, write_runs

from bench import ROOT
from bench.records.record import Labels
from bench.records.store import CURVE, run_folder, write_record
from bench.report import main
from bench.reporting import reports
from bench.reporting.comparison import comparisons
from bench.reporting.escaping import ACCENTED, LATEX, md, tex
from bench.reporting.figures.lines import MOST_LINES
from bench.reporting.figures.training import positions_figure
from bench.reporting.index import Section, index_page
from bench.reporting.options import USUAL, Options
from bench.reporting.render import latex, markdown
from bench.reporting.series import Band
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table
from bench.reporting.written_files import LIST

WITHOUT_TORCH = """
import importlib, pkgutil, sys
import bench.records, bench.reporting
for package in (bench.records, bench.reporting):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
from bench.report import main
code = main(sys.argv[1:])
loaded = {"torch", "torchvision", "methods", "datasets"} & set(sys.modules)
print(*loaded, file=sys.stderr)
sys.exit(code or len(loaded))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_tables_and_figures_of_every_data_set(example_reports: Path) -> None:
    names = set(contents(example_reports))
    for data in ("digits", "rooms", "faces"):
        for stem in ("scores", "cost"):
            assert {f"{data}/{stem}.{end}" for end in ("tex", "md", "csv")} <= names
        for stem in ("scores", "curves", "positions-normal"):
            assert {f"{data}/{stem}.{end}" for end in ("pdf", "png")} <= names
    assert {
        "faces/tasks-accuracy.tex",
        "faces/tasks-f1.csv",
        "runs.csv",
        "run-scores.csv",
        "README.md",
        "index.html",
    } <= names


def test_the_index_lists_all_runs_and_links_to_every_file(example_reports: Path) -> None:
    index = (example_reports / "README.md").read_text(encoding="utf-8")
    assert "| Digits | 4 | EW, MGDA, CAGrad, NORMAL | 0, 1, 2, 3, 4, 5, 6 | 21 | 1 | 0 | 6 |" in index
    assert "| Digits | MGDA | 0 | diverged | 50% of a_b & #1" in index
    assert "| 30 | cpu | a CPU | 1 | 2.0 | 3.11 | 0123abc |" in index
    assert "Epoch selection: highest mean score on validation." in index
    links = set(re.findall(r"\]\(([^)]+)\)", index))
    assert links == set(contents(example_reports)) - {"README.md", "index.html", LIST}


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_without_torch(
    example_results: Path, example_reports: Path, tmp_path: Path
) -> None:
    """In a process that has imported all of bench.reporting and bench.records, and with a study that has no tables."""
    arguments = ["--results", str(example_results), "--data", "digits", "--out"]
    assert main([*arguments, str(tmp_path / "here")]) == 0
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Pacific/Auckland"}
    command = [sys.executable, "-c", WITHOUT_TORCH, "--study", "embedded", *arguments, str(tmp_path / "there")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'there' / 'README.md'}\n" in done.stdout
    here, there, whole = contents(tmp_path / "here"), contents(tmp_path / "there"), contents(example_reports)
    assert here.keys() == there.keys() == {name for name in whole if name.startswith("digits/") or "/" not in name}
    assert [name for name in here if here[name] != there[name]] == []
    assert all(here[name].startswith((b"%PDF", b"\x89PNG")) for name in here if name.endswith((".pdf", ".png")))


def test_a_report_of_some_data_leaves_the_reports_of_the_others(
    example_results: Path, example_reports: Path, tmp_path: Path
) -> None:
    shutil.copytree(example_results, tmp_path / "results")
    shutil.copytree(example_reports, tmp_path / "out")
    better = make_record("digits", "UW", 0, test={task.key: {"accuracy": 0.99} for task in example_records()[0].tasks})
    write_record(run_folder(tmp_path / "results", "digits", "uw", 0), better)
    arguments = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    with without_drawing():
        assert main([*arguments, "--data", "DIGITS", "--ci"]) == 0
    before, after = contents(example_reports), contents(tmp_path / "out")
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert {"digits/scores.md", "digits/cost.csv", "runs.csv", "run-scores.csv", "README.md"} <= changed
    assert all(name.startswith("digits/") or "/" not in name for name in changed), changed

    old, new = (text["README.md"].decode().split("\n## ") for text in (before, after))
    titles = ["Over all problems", "What ran", "Digits", "Rooms", "Faces"]
    assert [part.split("\n")[0] for part in new] == ["# Reports", *titles]
    assert new[4:] == old[4:] and "| 99.00 | 99.00 |" in new[3] and " ± " not in new[3]
    with (tmp_path / "out" / "runs.csv").open(encoding="utf-8", newline="") as lines:
        assert {row["data"] for row in csv.DictReader(lines)} == {"digits", "rooms", "faces"}


def test_options_reach_the_report(example_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(results: Path, records: object, new: Path, **options: Any) -> tuple[Path, ...]:
        seen.update(options)
        written = (new / "README.md", new / "index.html")
        for path in written:
            path.touch()
        return written

    monkeypatch.setattr(reports, "write_reports", record)
    arguments = ["--results", str(example_results), "--out", str(tmp_path), "--data", "faces"]
    assert main([*arguments, "--tasks", "Smiling", "bald"]) == 0
    assert (seen["data"], seen["tasks"], seen["options"]) == (["faces"], ["smiling", "bald"], Options())
    rows = ["--methods", "ew", "normal", "--exclude", "NORMAL", "--order", "score"]
    assert main([*arguments, "--ci", "--decimals", "1", "--per-task", *rows]) == 0
    assert seen["options"] == Options("ci", 1, True, ("ew", "normal"), ("NORMAL",), "score")
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--decimals", "9"])
    assert main([*arguments, "--tasks", "smilling"]) == 2


def test_positions_are_drawn_of_the_chosen_tasks_or_of_some_of_many() -> None:
    (comparison,) = comparisons(make_study("faces", ("EW", "NORMAL"), (0,)))
    line = np.array([0.0, 1.0])
    bands = {task.key: Band(line, line * place, line, line) for place, task in enumerate(comparison.tasks)}
    for chosen, count in ((("smiling", "bald"), 2), ((), MOST_LINES)):
        figure = positions_figure(comparison, bands, chosen)
        assert figure is not None
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert len(labels) == count and (not chosen or set(labels) == {"Smiling", "Bald"})


def test_the_command_starts_without_what_takes_long_to_import() -> None:
    script = "import sys, bench.report; sys.exit(bool({'matplotlib', 'pandas', 'scipy', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_no_records_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nothing-here"):
        assert main(["--results", str(folder), "--out", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and len(captured.err.splitlines()) == 1
        assert "found none; run `python -m bench.run" in captured.err


def test_unknown_data_is_refused(example_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(example_results), "--out", str(tmp_path), "--data", "moons"]) == 2
    assert (
        "Unknown data set among the records 'moons'. Did you mean 'rooms'? Known: digits, rooms, faces."
        in capsys.readouterr().err
    )


def test_an_unreadable_record_or_curve_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [make_record(), make_record(seed=1)])
    record, curve = (run_folder(tmp_path, "digits", "ew", 1) / name for name in ("record.json", CURVE))
    damaged = {
        record: ['{"schema_version": 1, "status"', '{"schema_version": 99}', '{"schema_version": 1}'],
        curve: ["", "epoch,step\n1,2\n", "epoch,score\n1,much\n"],
    }
    for path, texts in damaged.items():
        intact = path.read_bytes()
        for text in texts:
            path.write_text(text, encoding="utf-8")
            assert main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2, text
            assert str(path) in capsys.readouterr().err, text
        path.write_bytes(intact)


def test_runs_without_curves_still_make_tables(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [make_unfinished("failed", "no memory"), make_record(seed=1)])
    for curve in (tmp_path / "results").rglob(CURVE):
        curve.unlink()
    with without_drawing():
        assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "digits" / "scores.pdf").exists()
    assert not (tmp_path / "out" / "digits" / "curves.pdf").exists()


def test_published_numbers_are_on_the_index_page_alone() -> None:
    update = {"data": "office31", "labels": Labels(data="Office-31", method="EW")}
    records = [make_record(data="digits").model_copy(update=update)]
    (comparison,) = comparisons(records)
    index = index_page(records, [comparison], [Section(comparison, {}, {})], ())
    assert "published (Ye et al., IJCAI 2023), not comparable: other splits, other code" in index
    assert "| NORMAL | 86.32 | 99.18 | 98.88 | 94.80 |" in index
    assert not any("86.32" in latex(table) for table in score_tables(comparison, USUAL))


def all_latex() -> list[str]:
    found = [latex(table) for one in comparisons(example_records()) for table in score_tables(one, USUAL)]
    every_character = " ".join((*LATEX, *ACCENTED, NASTY, "ψ", "\x1b"))
    label = f"[*] {NASTY}"
    row = Row(Head(label, (every_character,)), (Cell("-0.10 ± 0.20", bold=True), Cell(notes=("other",))))
    columns = (Column(Head("A_b & c ↑")), Column(Head("Δ_b (%)"), "left"))
    groups = (Group("", 1), Group(NASTY, 1))
    found.append(
        latex(Table("levels", "tab:levels", "A caption.", "#1", groups, columns, (row,), "", (Group(NASTY, 2),)))
    )
    return [*found, latex(Table("odd", r"tab:x}\input{nowhere}", every_character, "#1", (), columns, (row, row)))]


def test_latex_is_balanced() -> None:
    for text in all_latex():
        assert re.search(r"\\label{[A-Za-z0-9_.:@+-]+}\n", text) and "\\input" not in text
        bare = re.sub(r"\\[{}&%$#_]", "", text)
        assert bare.count("{") == bare.count("}")
        assert text.count(r"\begin{") == text.count(r"\end{")
        tabulars = re.findall(r"\\begin{tabular}{([lr]+)}\n *\\toprule(.*?)\\bottomrule", bare, flags=re.DOTALL)
        assert len(tabulars) == text.count(r"\toprule") == text.count(r"\bottomrule") > 0, text
        for columns, body in tabulars:
            for line in (line for line in body.splitlines() if line.endswith(r"\\")):
                spans = sum(int(span) - 1 for span in re.findall(r"\\multicolumn{(\d+)}", line))
                assert line.count("&") + spans + 1 == len(columns), line


def test_special_characters_of_latex_and_markdown_are_escaped() -> None:
    assert tex("a_b & 50% #1") == r"a\_b \& 50\% \#1"
    assert tex("Δ_b ± 2 ↑") == r"$\Delta_b$ $\pm$ 2 $\uparrow$"
    assert tex("ψ") == "{[}U+03C8{]}"
    assert md("a|b *c* 5_o_Clock\n<d>") == r"a\|b \*c\* 5_o_Clock \<d>"


def test_heads_have_those_of_all_their_groups() -> None:
    columns = tuple(Column(Head(head)) for head in ("a", "b", "c"))
    rows = tuple(Row(Head("r"), (Cell("1"),) * 3, gap=True) for _ in range(2))
    table = Table("t", "t", "C", "S", (Group("", 1), Group("two", 2)), columns, rows, "", (Group("all", 3),))
    assert "| S | all a | all two b | all two c |" in markdown(table)
    text = latex(table)
    assert "& \\multicolumn{3}{c}{all} \\\\" in text and text.count("\\addlinespace") == 1
    rules = [line.strip() for line in text.splitlines() if "cmidrule" in line]
    assert rules == ["\\cmidrule(lr){2-4}", "\\cmidrule(lr){3-4}"]


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
    assert any("sidewaystable" in text for text in texts)
    log = compile_latex(texts, "booktabs,graphicx,rotating", tmp_path)
    assert "Overfull" not in log
