"""Reports of measured steps: medians, ratios and bars worked out by hand, and what is missing."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from record_factory import make_study, write_runs
from speed_factory import example_cells, make_cell, make_speed, make_workload, series_record

from bench import report
from bench.records.speed import OURS, Cell, SpeedRecord, write_speed
from bench.records.store import RecordError
from bench.reporting.render import latex, markdown
from bench.reporting.speed.figure import steps_figure
from bench.reporting.speed.numbers import CSV_COLUMNS, EQUAL, entries, speed_csv, spread
from bench.reporting.speed.report import text_table, write_speed_report
from bench.reporting.speed.scaling import scaling_figure
from bench.reporting.speed.table import scaling_tables, speed_tables, step_table, summary_table
from bench.reporting.speed.text import circumstances, parameters, percent, three_digits
from bench.reporting.tables.table import Table


@pytest.fixture
def example() -> SpeedRecord:
    return make_speed(example_cells())


def texts(table: Table) -> dict[str, list[str]]:
    return {row.head.text: [cell.text for cell in row.cells] for row in table.rows}


def lines(record: SpeedRecord) -> dict[tuple[str, str], dict[str, str]]:
    found = list(csv.DictReader(io.StringIO(speed_csv(record))))
    return {(line["method"] or line["passes"], line["candidate"]): line for line in found}


def test_a_table_by_hand(example: SpeedRecord) -> None:
    table = step_table(example, example.workloads[0])
    heads = [column.head.text for column in table.columns]
    assert heads == ["ms", "× EW", "overhead, %", "ms", "× ours", "ms", "× ours", "ours", "LibMTL", "TorchJD"]
    assert sum(group.span for group in table.groups) == len(heads)
    blank = [""] * 9
    # CAGrad beside LibMTL: 30/30, 75/50, 80/40, so 1.5, and not 75/40, the medians' quotient.
    assert texts(table) == {
        "EW": ["10.0 (10.0–15.0)", "1.00", "25.0", "15.0", "1.50", "12.0", "1.20", "100", "120", "--"],
        "MGDA": ["18.0 (18.0–27.0)", "1.80", "-10.0", "36.0", "2.00", "--", "--", "200", "190", "--"],
        "CAGRAD": ["40.0 (35.0–45.0)", "3.00", "50.0", "75.0", "1.50", "--", "--", "210", "230", "--"],
        "NORMAL": ["14.0 (14.0–21.0)", "1.40", "75.0", "--", "--", "--", "--", "--", "--", "--"],
        "Autograd baseline, one backward pass": ["8.00 (8.00–12.00)", *blank],
        "Autograd baseline, one per task": ["20.0 (20.0–30.0)", *blank],
    }
    assert table.footnotes == {"TorchJD: ValueError: expected one group": "a"}
    assert "4 × 8 images of 96 × 64, 11.2 M shared parameters" in table.caption


def test_the_summary_is_of_gradient_methods(example: SpeedRecord) -> None:
    """NORMAL needs one backward pass, and is most above its baseline."""
    summary = summary_table(example)
    assert summary is not None
    (cells,) = texts(summary).values()
    libmtl = ["1.50", "1.50 (CAGRAD)", "1.75 of 2", "2.00 (MGDA)", "1 of 2"]
    assert cells == ["50.0 (CAGRAD)", "3.00 (CAGRAD)", *libmtl, "1.20", "--", "--", "--", "--"]
    assert list(summary.footnotes) == ["ours takes more than LibMTL: MGDA by 10 MiB"]
    assert sum(group.span for group in summary.groups) == len(cells)


def test_the_csv_has_every_cell_with_quartiles(example: SpeedRecord) -> None:
    found = lines(example)
    assert len(found) == len(example.cells) and tuple(found["ew", OURS]) == CSV_COLUMNS
    cagrad = found["cagrad", "LibMTL"]

    def quartiles(name: str) -> list[float]:
        return [float(cagrad[name.format(part)]) for part in ("q1", "median", "q3")]

    assert quartiles("{}_ms") == pytest.approx([52.5, 75, 77.5])
    assert quartiles("over_ours_{}") == pytest.approx([1.25, 1.5, 1.75])
    # 30/20, 75/40, 80/20 over the baseline; 30/15, 75/30, 80/15 over LibMTL's own EW.
    assert quartiles("over_baseline_{}") == pytest.approx([1.6875, 1.875, 2.9375])
    assert quartiles("over_ew_{}") == pytest.approx([2.25, 2.5, (2.5 + 16 / 3) / 2])
    identity = ("machine", "workload", "series", "tasks", "parameters", "passes", "peak_mib")
    assert [cagrad[name] for name in identity] == ["bench-1", "office", "", "4", "11176512", "per task", "230.0"]
    failed = found["mgda", "TorchJD"]
    assert failed["error"] == "ValueError: expected one group." and failed["median_ms"] == failed["peak_mib"] == ""
    assert (
        float(found["one", "autograd baseline"]["median_ms"]) == pytest.approx(8)
        and not found["one", "autograd baseline"]["over_ours_median"]
    )


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_slow_round_changes_no_ratio(example: SpeedRecord, which: int) -> None:
    disturbed = example.model_copy(deep=True)
    for cell in disturbed.cells:
        if cell.seconds:
            cell.seconds[which] *= 7.5
    names = [name for name in CSV_COLUMNS if name.startswith("over_")]
    before, after = lines(example), lines(disturbed)
    for key, line in before.items():
        for name in names:
            assert bool(line[name]) == bool(after[key][name])
            assert not line[name] or float(after[key][name]) == pytest.approx(float(line[name]), rel=1e-12)
    assert summary_table(disturbed) == summary_table(example)
    assert after["ew", OURS]["q3_ms"] != before["ew", OURS]["q3_ms"]


def test_quartiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).random(9)
    found = spread(values.tolist())
    assert found is not None and found.rounds == 9
    assert (found.low, found.median, found.high) == pytest.approx(tuple(np.quantile(values, (0.25, 0.5, 0.75))))
    assert spread([]) is None


def one(cell: Cell, *others: Cell) -> list[str]:
    """The first row of a record of a few cells; the texts are without notes."""
    record = make_speed([cell, *others])
    assert text_table(record) and [latex(table) + markdown(table) for table in speed_tables(record)]
    assert steps_figure(record) is not None and scaling_figure(record) is None
    return next(iter(texts(step_table(record, record.workloads[0])).values()))


def test_a_single_cell() -> None:
    """One round, one method, no peer, no baseline, no memory; what has no spread shows none."""
    assert one(make_cell("mgda", OURS, [12.34])) == ["12.3", "--", "--", "--"]
    assert one(make_cell("ew", OURS, [12.34], "one", peak_mib=3.21)) == ["12.3", "1.00", "--", "3.2"]


def test_a_method_that_only_a_peer_has_or_finishes() -> None:
    theirs = make_cell("mgda", "LibMTL", [20, 30], peak_mib=7)
    assert one(theirs) == ["--", "--", "--", "25.0", "--", "--", "7.0"]
    assert one(make_cell("mgda", OURS, [], error="Oops: no."), theirs)[0] == "--"
    summary = summary_table(make_speed([theirs]))
    assert summary is not None and texts(summary)["office, four tasks, an input each"] == ["--"] * 7


def test_an_error_is_printed_once(example: SpeedRecord) -> None:
    again = make_cell("upgrad", "TorchJD", [], error="ValueError: expected one group.")
    record = make_speed([*example.cells, make_cell("upgrad", OURS, [10, 10, 10]), again])
    for text in (text_table(record), markdown(step_table(record, record.workloads[0]))):
        assert text.count("TorchJD: ValueError: expected one group") == 1
    assert text_table(record).count("-- [a]") == 2


def test_rounds_that_cannot_be_paired_are_refused() -> None:
    record = make_speed([make_cell("ew", OURS, [1, 2]), make_cell("ew", "LibMTL", [1, 2, 3])])
    with pytest.raises(RecordError, match="'office': expected as many rounds for all, found 3 for LibMTL EW, 2"):
        text_table(record)


def test_series_have_tables_by_size() -> None:
    record = series_record()
    assert summary_table(record) is None
    (table,) = scaling_tables(record)
    found = texts(table)
    sizes = ("1 task", "4 tasks", "16 tasks")
    assert list(found)[:6] == [f"{name}, {size}" for name in ("EW", "MGDA") for size in sizes]
    assert found["MGDA, 4 tasks"] == ["20.0 (18.0–22.0)", "4.00", "10.0", "40.0", "2.00", "200", "240"]
    assert found["Autograd baseline, one per task, 16 tasks"][0] == "72.0 (68.0–76.0)"
    assert [row.rule for row in table.rows].count(True) == 2


def test_circumstances(example: SpeedRecord) -> None:
    said = circumstances(example)
    assert said == (
        "A CPU (cpu), 2 threads, PyTorch 2.14. 3 rounds, size 'cpu'. A step has 4 × 8 images of 96 × 64 (office). "
        "Settings other than the defaults: train.jacobian=looped. Commit 0123abc."
    )
    bare = circumstances(make_speed([], device="NVIDIA H100", threads=1, rounds=1, settings={}, environment={}))
    assert bare.startswith("NVIDIA H100, 1 thread, PyTorch of an unknown version. 1 round,")
    assert "than the defaults: none. Commit unknown." in bare
    assert said in text_table(example)


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "1.23"), (9.996, "10.0"), (99.97, "100"), (1234.5, "1,234"), (0.0, "0.00")]
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_numbers_in_words() -> None:
    assert [parameters(n) for n in (12, 512_000, 999_800, 11_176_512)] == ["12", "512 k", "1,000 k", "11.2 M"]
    assert [percent(share) for share in (None, 0.1234, -0.05, -0.0)] == ["--", "12.3", "-5.0", "0.0"]


@pytest.mark.slow
def test_the_report_in_a_folder(tmp_path: Path) -> None:
    series = series_record()
    record = make_speed([*example_cells(), *series.cells], [make_workload(), *series.workloads])
    files = write_speed_report(record, tmp_path)
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()}
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert files[0].name == "speed.md" and circumstances(record) in page
    assert set(re.findall(r"\]\(([^)]+)\)", page)) == {path.name for path in files[1:]}
    assert page.count("All ratios are taken within a round") == 1 and "Steps on" not in page
    before = {path.name: path.read_bytes() for path in files}
    assert before == {path.name: path.read_bytes() for path in write_speed_report(record, tmp_path)}
    for table in speed_tables(record):
        made = latex(table)
        assert "{[}U+" not in made and made.count("{") == made.count("}")
        assert "All ratios are taken within a round" in made or table.name == "summary"


@pytest.mark.slow
def test_the_index_leads_to_every_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, out = tmp_path / "results", tmp_path / "reports"
    write_runs(results, make_study("digits", ("EW",), (0, 1)))
    arguments = ["--results", str(results), "--out", str(out)]
    assert report.main(arguments) == 0
    without = (out / "README.md").read_text(encoding="utf-8")
    assert "Speed" not in without and not (out / "speed").exists()
    write_speed(results / "speed", make_speed(example_cells()))
    write_speed(results / "speed", series_record().model_copy(update={"machine": "gpu+1"}))
    capsys.readouterr()
    assert report.main(arguments) == 0
    assert "of 2 runs and 2 measurements of steps" in capsys.readouterr().out
    index = (out / "README.md").read_text(encoding="utf-8")
    assert index.startswith(without + "\n## Speed\n\n### bench-1\n") and "1.75 of 2" in index
    for link in re.findall(r"\]\((speed/[^)]+)\)", index):
        assert (out / link).exists(), link
    assert "speed/gpu+1/speed.md" in index and (out / "speed" / "bench-1" / "steps.pdf").exists()


def test_measurements_without_runs(tmp_path: Path) -> None:
    write_speed(tmp_path / "speed", make_speed(example_cells()))
    assert report.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    index = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "## Speed" in index and "What ran" not in index and not (tmp_path / "out" / "runs.csv").exists()


def test_a_measurement_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "odd.json").write_text('{"schema_version": 2}')
    assert report.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "odd.json" in capsys.readouterr().err


def test_every_ratio_of_ew_to_itself_is_one(example: SpeedRecord) -> None:
    (equal,) = (entry for entry in entries(example, example.workloads[0]) if entry.method == EQUAL)
    for candidate in (OURS, "LibMTL", "TorchJD"):
        over = equal.over_equal(candidate)
        assert over is not None and math.isclose(over.low, 1) and math.isclose(over.high, 1)
