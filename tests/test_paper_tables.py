"""The paper's tables from records whose means are the printed cells: all else that it printed must come out."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from paper_records import SEEDS, ablation_records, paper_records, real_tasks, report_on, rows_of
from record_factory import make_record, make_unfinished, without_drawing, write_runs

from bench import ROOT
from bench.records.record import Labels, Record
from bench.report import main
from bench.reporting.figures.panels import Panel, panels_figure
from bench.reporting.paper.checks import IMAGES, STATED_IMAGES, all_checks, equal_rows
from bench.reporting.paper.layout import AVERAGE, GAIN, TABLE1, TABLE2, TABLE3, TABLE4, TABLES, PaperTable
from bench.reporting.paper.printed import printed_rows
from bench.reporting.series import Band
from bench.reporting.spacing import evenly_spaced
from bench.reporting.written_files import LIST
from datasets import DATASETS
from methods import METHODS

# The only printed number that does not follow from the others: the row's columns average 77.1975.
WRONG_AVERAGE = ("table4", "first-order NODE", "officehome/Avg")
HOSTILE = r"a_b & 100% {x} <script> $y$ \input{z} | # ^ ~"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_runs(folder, [run for table in (TABLE1, TABLE2, TABLE3) for run in paper_records(table)])
    write_runs(folder / "ablation", ablation_records())
    return folder


@pytest.fixture(scope="module")
def out(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert report_on(results, folder) == 0
    return folder


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def printed_cells(table: PaperTable) -> Iterator[tuple[str, int, str, str]]:
    """(row, column, its name, digits) of every cell."""
    for name, cells in printed_rows(table).items():
        for place, column in enumerate(table.columns):
            yield name, place, column.csv, cells[column.csv]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_cell_is_the_printed_one(table: PaperTable, out: Path) -> None:
    _, *rows = rows_of(out / f"{table.name}.md")
    names = list(printed_rows(table))
    assert [row[0] for row in rows] == [table.rows.get(name, name) for name in names]
    for name, place, column, digits in printed_cells(table):
        found = rows[names.index(name)][1 + place].strip("*")
        if (table.name, name, column) == WRONG_AVERAGE:
            assert (digits, found) == ("77.45", "77.20")
        elif table.columns[place].task in (AVERAGE, GAIN) and table is not TABLE3:
            # Computed from the records, not from printed averages: off by what rounding the cells explains.
            allowed = 0.015 if table.columns[place].task == GAIN else 0.01
            assert abs(float(found) - float(digits)) <= allowed + 1e-9, (name, column)
        else:
            assert found == digits, (name, column)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_best_of_each_column_is_bold(table: PaperTable, out: Path) -> None:
    _, *rows = rows_of(out / f"{table.name}.md")
    for place, column in enumerate(table.columns):
        values = [float(cells[column.csv]) for cells in printed_rows(table).values()]
        best = max(values) if column.metric.direction == "higher" else min(values)
        bold = [row[1 + place].startswith("**") for row in rows]
        assert bold == [value == best for value in values], column.csv


def test_averages_are_not_copied(out: Path) -> None:
    """Here the mean is 93.9567: the paper prints 93.95."""
    row = next(row for row in rows_of(out / "table4.md") if row[0] == "Constant and identical positions")
    assert printed_rows(TABLE4)["constant identical positions"]["office31/Avg"] == "93.95" and row[4] == "93.96"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_published_numbers_ours_and_differences_of_every_cell(table: PaperTable, out: Path) -> None:
    lines = lines_of(out / f"{table.name}-differences.csv")
    expected = list(printed_cells(table))
    assert len(lines) == len(expected)
    for line, (name, _, column, digits) in zip(lines, expected, strict=True):
        assert float(line["published"]) == float(digits) and line["n"] == "3"
        difference = float(line["here"]) - float(digits)
        assert float(line["difference"]) == pytest.approx(difference, abs=1e-12)
        if (table.name, name, column) == WRONG_AVERAGE:
            assert difference == pytest.approx(-0.2525) and "the paper's own columns give 77.20" in line["notes"]
        else:
            assert abs(difference) < 0.015 and "columns give" not in line["notes"], (name, column)
    text = (out / f"{table.name}-differences.md").read_text(encoding="utf-8")
    assert ("The paper counts 4,652 images of Office-31, which has 4,110." in text) == ("office31" in table.data)
    assert "not comparable: other splits, other code" in text and "**" not in text
    head, *rows = rows_of(out / f"{table.name}-differences.md")
    if table is TABLE3:
        assert head[1:] == ["Published", "Here", "Difference"] and len(rows) == len(printed_rows(table))
    else:
        assert [row[1] for row in rows] == ["published", "here", "difference"] * len(printed_rows(table))
    if table is TABLE4:
        average = [row[-1] for row in rows if row[0] == "First-order NODE" or row[1] != "published"]
        assert "-0.25" in average and "77.20" in average


def test_the_paper_contradicts_itself_where_we_say(out: Path) -> None:
    odd = {
        (check.group, check.row): (check.printed, round(check.found, 4)) for check in all_checks() if not check.holds
    }
    assert odd == {
        ("Table 4: Avg on Office-Home", "first-order NODE"): (77.45, 77.1975),
        ("Text: images of Office-31", "office31"): (4652, 4110),
        ("Text: images of Office-Home", "officehome"): (15500, 15588),
    }
    gains = [check for check in all_checks() if check.group.startswith("Table 2")]
    assert len(gains) == 9 and all(abs(check.difference) < 0.015 for check in gains)
    assert equal_rows(TABLE4) == (("officehome", "constant identical positions", "constant different positions"),)
    text = (out / "checks.md").read_text(encoding="utf-8")
    for words in ("printed 4,652, found 4,110", "First-order NODE: printed 77.45, recomputed 77.20"):
        assert words in text
    assert sum(line["holds"] == "False" for line in lines_of(out / "checks.csv")) == 3
    index = (out / "README.md").read_text(encoding="utf-8")
    assert "| Table 1 | Office-31 | 9 of 9 | 0 | 0, 1, 2 | 4,110 | nothing |" in index  # as the runs say


def test_numbers_of_images_are_those_of_the_data_sets() -> None:
    text = " ".join((ROOT / "docs" / "paper.md").read_text(encoding="utf-8").split())
    assert f"{STATED_IMAGES['office31']:,} images" in text
    for data in ("office31", "officehome"):
        published = DATASETS[data].published
        assert IMAGES[data] == tuple(published[f"{task.key}: images"][0] for task in DATASETS[data].tasks)
    assert IMAGES["nyuv2"] == (
        *DATASETS["nyuv2"].published["train: images"],
        *DATASETS["nyuv2"].published["val: images"],
    )
    assert IMAGES["celeba"] == DATASETS["celeba"].published["train / validation / test"]


def test_columns_are_tasks_and_metrics_of_the_data_sets() -> None:
    for table in TABLES:
        assert list(printed_rows(table)["NORMAL"]) == [column.csv for column in table.columns]
        for column in table.columns:
            metrics = {task.key: {m.key: m for m in task.metrics} for task in real_tasks(column.data)}
            if column.task not in (AVERAGE, GAIN):
                found = metrics[column.task][column.metric.key]
                assert (found.unit, found.direction) == (column.metric.unit, column.metric.direction)


def test_the_index_links_to_every_file(out: Path) -> None:
    index = (out / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in out.iterdir()}
    assert set(re.findall(r"\]\(([^)]+)\)", index)) == files - {"README.md", LIST}
    stems = [f"{table.name}{end}" for table in TABLES for end in ("", "-differences")]
    assert {f"{stem}.{end}" for stem in (*stems, "checks") for end in ("tex", "md", "csv")} <= files
    assert (out / "figure2.pdf").read_bytes().startswith(b"%PDF")


def test_table_2_has_the_papers_three_levels_of_heads(out: Path) -> None:
    head, *_ = rows_of(out / "table2.md")
    assert head[5] == "Surface normal Angle distance Mean ↓" and head[9] == "Surface normal Within t° 30 ↑"
    text = (out / "table2.tex").read_text(encoding="utf-8")
    assert r"\multicolumn{5}{c}{Surface normal}" in text and r"\multicolumn{3}{c}{Within t$^\circ$}" in text
    head, *_ = rows_of(out / "table3.md")
    assert head == ["Method", "Avg"]


def typeset(folder: Path, name: str) -> str:
    """The log of pdflatex, run in a folder."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@pdflatex
def test_the_document_compiles_by_itself(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    assert "Overfull" not in typeset(tmp_path / "out", "paper.tex")
    fragments = "\n\\clearpage\n".join(f"\\input{{{path.stem}}}" for path in out.glob("*.tex") if path.stem != "paper")
    bare = (
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx,rotating}\n\\begin{document}\n%s\n\\end{document}\n"
    )
    (tmp_path / "out" / "bare.tex").write_text(bare % fragments)
    assert "Overfull" not in typeset(tmp_path / "out", "bare.tex")


@pytest.fixture(scope="module")
def partial_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user with Office-31 has, after some failures, and runs that the paper doesn't have."""
    tmp_path = tmp_path_factory.mktemp("partial")
    runs = paper_records(TABLE1, ["office31"])
    runs = [run for run in runs if run.method not in ("mgda", "imtl") and (run.method, run.seed) != ("cagrad", 2)]
    broken = next(run for run in runs if (run.method, run.seed) == ("normal", 1))
    lost = make_unfinished("diverged", HOSTILE).model_dump()
    changed = {key: lost[key] for key in ("status", "reason", "validation", "test", "last_test", "selected")}
    runs = [run.model_copy(update=changed) if run is broken else run for run in runs]
    single = [run for run in runs if run.method == "ew"]
    labels = Labels(data=HOSTILE, method=HOSTILE)
    runs += [run.model_copy(update={"method": "own", "variant": "own", "labels": labels}) for run in single]
    runs += [make_record("rooms", "EW")]
    write_runs(tmp_path / "results", runs)
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    return tmp_path / "out"


def test_what_is_missing_is_said(partial_out: Path) -> None:
    _, *rows = rows_of(partial_out / "table1.md")
    found = {row[0]: row[1:] for row in rows}
    assert list(found)[:9] == list(printed_rows(TABLE1))
    assert found["MGDA"] == found["IMTL"] == ["--"] * 9
    assert found["EW"] == ["**84.67**", "98.09", "98.70", "93.82", *["--"] * 5]
    text = (partial_out / "table1.md").read_text(encoding="utf-8")
    assert "Not run on Office-31: MGDA; IMTL. No runs on Office-Home." in text
    assert "seed 2 not run" in text and "seed 1 diverged" in text
    assert "unless a note says otherwise" in text and "not in the paper's table" in text
    # A row that lacks a seed is not marked, though it has the highest mean; equal ones share the mark.
    assert float(found["NORMAL"][0]) > 86 and found["PCGrad"][0] == "**84.67**" and found["Nash-MTL"][1] == "**98.91**"
    assert set(cell for row in rows_of(partial_out / "table2.md")[1:] for cell in row[1:]) == {"--"}
    published = [row for row in rows_of(partial_out / "table2-differences.md") if row[1] == "published"]
    assert published[0][2] == "0.4875"
    index = (partial_out / "README.md").read_text(encoding="utf-8")
    assert "| Table 3 | CelebA | 0 of 9 | 0 | -- | -- | python -m bench.run --study paper --data celeba |" in index
    assert "python -m bench.run --study ablation --data office31" in index
    assert "Runs on other data sets are not here: Rooms." in index
    assert "No positions of NORMAL on Office-Home." in index
    assert "7 of 9 | 1 | 0, 1, 2 | 4,110 | python -m bench.run --study paper --data office31" in index


def test_our_own_rows_come_after_a_rule(partial_out: Path) -> None:
    lines = (partial_out / "table1.tex").read_text(encoding="utf-8").splitlines()
    place = next(place for place, line in enumerate(lines) if line.strip().startswith("NORMAL"))
    assert lines[place + 1].strip() == r"\midrule" and "script" in lines[place + 2]


def test_names_from_records_are_escaped(partial_out: Path, tmp_path: Path) -> None:
    for path in partial_out.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "<script>" not in text.replace("\\<script>", ""), path
    for path in partial_out.glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        assert "a_b &" not in text and "\\input" not in text and "$y$" not in text, path
    if shutil.which("pdflatex") is not None:
        # Figures are empty files here.
        document = re.sub(r"\\includegraphics.*", "", (partial_out / "paper.tex").read_text(encoding="utf-8"))
        (tmp_path / "document.tex").write_text(document, encoding="utf-8")
        typeset(tmp_path, "document.tex")


def test_without_records_of_the_paper_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "results", [make_record("digits")])
    for folder, found in ((tmp_path / "results", "digits"), (tmp_path / "nothing", "none")):
        assert report_on(folder, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"found {found}; put one of these data sets" in error
    assert not (tmp_path / "out").exists()


def test_another_index_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "results", paper_records(TABLE1, ["office31"])[:1])
    with without_drawing():
        assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
        before = (tmp_path / "out" / "README.md").read_bytes()
        assert report_on(tmp_path / "results", tmp_path / "out") == 2
    assert "expected an index of reports, found another text" in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").read_bytes() == before


def test_both_studies_in_one_folder(tmp_path: Path) -> None:
    """Rows of the study of Table 4 are not repeated below Table 1."""
    write_runs(tmp_path / "results", [*paper_records(TABLE1), *ablation_records()])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    rows = {name: [row[0] for row in rows_of(tmp_path / "out" / f"{name}.md")[1:]] for name in ("table1", "table4")}
    assert rows["table1"] == list(printed_rows(TABLE1))
    assert rows["table4"] == [*TABLE4.rows.values(), "*HPS (EW)*"]


STUDY = """
title: Tuned
data: [office31]
tables:
  - name: tuned
    title: Tuned
    rows:
      - {label: "EW", method: ew}
      - {label: "EW, tuned", method: ew, set: {train.lr: 0.3}, trials: 2}
      - {label: "NORMAL, tuned", method: normal, set: {train.lr: 0.2}, trials: 2}
"""


def test_a_study_tells_the_rows(tmp_path: Path) -> None:
    (tmp_path / "tuned.yaml").write_text(STUDY)
    runs = [run for run in paper_records(TABLE1, ["office31"]) if run.method in ("ew", "normal", "uw")]
    rates = {"ew": 0.3, "normal": 0.2}
    tuned = [
        run.model_copy(update={"variant": f"{run.method}@1", "overrides": {"train.lr": rates[run.method]}})
        for run in runs
        if run.method in rates
    ]
    write_runs(tmp_path / "results", [*(run for run in runs if run.method != "normal"), *tuned])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out", "--study", str(tmp_path / "tuned.yaml")) == 0
    _, *rows = rows_of(tmp_path / "out" / "table1.md")
    found = {row[0]: row[1] for row in rows}
    # The only row of a method stands for it, with a note; a further one of EW comes after the rule.
    assert found["NORMAL"] == "**86.32**" and found["UW"] == "--" and "*EW, tuned*" in found
    assert "row NORMAL, tuned" in (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")


def test_each_protocol_of_nyuv2_has_its_table(tmp_path: Path) -> None:
    runs = [run for run in paper_records(TABLE2) if run.method in ("ew", "uw")]
    settings = {"data": {"protocol": "published"}}
    published = {"variant": "ew@p", "overrides": {"data.protocol": "published"}, "settings": settings}
    write_runs(tmp_path / "results", [*runs, *(run.model_copy(update=published) for run in runs if run.method == "ew")])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    held_out, other = (rows_of(tmp_path / "out" / f"{name}.md") for name in ("table2", "table2-published"))
    assert [row[1] for row in held_out[1:4]] == ["**0.4875**", "0.4866", "--"]
    assert [row[1] for row in other[1:4]] == ["0.4875", "--", "--"]
    assert "Protocol: published." in (tmp_path / "out" / "table2-published.md").read_text(encoding="utf-8")


def test_a_wide_table_lies_on_its_side(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [run for run in paper_records(TABLE2) if run.method in ("ew", "uw")])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out", "--ci") == 0
    assert "[0.48" in rows_of(tmp_path / "out" / "table2.md")[1][1].replace("\\", "")
    document = (tmp_path / "out" / "paper.tex").read_text(encoding="utf-8")
    assert document.count(r"\begin{sidewaystable}") == document.count(r"\end{sidewaystable}") >= 1
    if shutil.which("pdflatex") is not None:
        assert "Overfull" not in typeset(tmp_path / "out", "paper.tex")


def changed(run: Record, **fields: object) -> Record:
    """The run with other fields, and the score that they are selected by."""
    other = run.model_copy(update=fields)
    accuracies = [scores["accuracy"] for scores in other.validation.values()]
    assert other.selected is not None
    selected = other.selected.model_copy(update={"score": sum(accuracies) / len(accuracies)})
    return other.model_copy(update={"selected": selected})


def test_runs_of_other_tasks_are_left_out_and_named(tmp_path: Path) -> None:
    celeba = [run for run in paper_records(TABLE3) if run.method == "ew"]
    some = {"settings": {"data": {"tasks": [task.key for task in celeba[0].tasks[:2]]}}, "tasks": celeba[0].tasks[:2]}
    keys = [task.key for task in celeba[0].tasks[:2]]
    scores = {name: {key: celeba[0].test[key] for key in keys} for name in ("test", "last_test", "validation")}
    office = [run for run in paper_records(TABLE1, ["office31"]) if run.method == "ew"]
    two = {"tasks": office[0].tasks[:2]} | {
        name: {task.key: office[0].test[task.key] for task in office[0].tasks[:2]}
        for name in ("test", "last_test", "validation")
    }
    write_runs(tmp_path / "results", [changed(celeba[0], variant="ew@2", **some, **scores), changed(office[0], **two)])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    index = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Left out: runs on some of the tasks of CelebA." in index
    assert "Left out: the runs on Office-31, which have 2 tasks instead of 3." in index


WITHOUT_TORCH = """
import sys
from bench.report import main
code = main(sys.argv[1:])
loaded = {"torch", "torchvision", "methods", "datasets"} & set(sys.modules)
print(*loaded, file=sys.stderr)
sys.exit(code or len(loaded))
"""


def test_no_torch_unless_a_row_of_a_study_is_resolved(tmp_path: Path) -> None:
    write_runs(tmp_path / "results", [run for run in paper_records(TABLE1, ["office31"]) if run.method == "ew"])
    command = [sys.executable, "-c", WITHOUT_TORCH, "--paper", "--results", str(tmp_path / "results")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_terminal_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "results", paper_records(TABLE1, ["office31"])[:3])
    with without_drawing():
        assert report_on(tmp_path / "results", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "  Table 3: No runs on CelebA." in lines
    assert lines[1].startswith("  Table 1: Not run on Office-31: UW; GradNorm; ") and "Office-Home." in lines[1]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_labels_of_tasks_stop_no_figure(tmp_path: Path) -> None:
    labels = (HOSTILE, r"$\bad{", "_x", "a\nb\x1b", "𝒳 ☃", HOSTILE * 5)
    figure = panels_figure([Panel(HOSTILE, tuple((label, line_to(1.0)) for label in labels))])
    figure.savefig(tmp_path / "figure.png", dpi=20)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][2] == " _x"


def line_to(end: float) -> Band:
    x = np.linspace(0.0, 10.0, 40)
    return Band(x, x * end, x * end, x * end)


def test_lines_of_a_panel_differ_without_colour() -> None:
    lines = tuple((f"task {place}", line_to(place)) for place in range(10))
    figure = panels_figure([Panel("(a)", lines), Panel("(b)", (), "nothing"), Panel("(c)", lines[:1])])
    first, second, third, fourth = figure.axes
    styles = {(str(line.get_linestyle()), str(line.get_marker()), str(line._dash_pattern)) for line in first.lines}  # type: ignore[attr-defined]
    assert len(styles) == len(first.lines) == 10
    assert [text.get_text() for text in second.texts] == ["nothing"] and not second.lines
    assert len(third.lines) == 1 and not fourth.axison


@pytest.mark.parametrize(("most", "first", "count"), [(10, ("b", "c"), 10), (3, ("b", "c", "d", "e"), 4), (99, (), 26)])
def test_lines_that_are_drawn_of_many(most: int, first: Sequence[str], count: int) -> None:
    found = evenly_spaced({chr(97 + place): float(place) for place in range(26)}, most, first)
    assert set(first) <= set(found) and len(found) == len(set(found)) == count
    assert found == sorted(found, reverse=True)
    if most == 10:
        assert {"a", "z"} <= set(found)


def test_methods_of_the_paper_are_those_of_the_registry() -> None:
    for table in (TABLE1, TABLE2, TABLE3):
        assert list(printed_rows(table)) == [METHODS[key].label for key in list(METHODS)[:9]]
    assert SEEDS == (0, 1, 2)
