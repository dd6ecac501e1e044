"""The page of very many runs stays small enough for a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_reports import EPOCHS, many_records, write_curve
from page_parts import data_of, read_page
from record_factory import make_record, without_drawing, write_runs

from bench.reporting.comparison import comparisons
from bench.reporting.page.drawing import drawing
from bench.reporting.page.render import PAGE
from bench.reporting.reports import write_reports
from bench.reporting.sections import analysed, section_figures
from bench.reporting.series import read_curves

PROBLEMS, ROWS, SEEDS = 20, 50, 10
LARGEST = 10**7  # bytes


@pytest.mark.slow
def test_the_page_of_ten_thousand_runs(tmp_path: Path) -> None:
    """With the drawings of one problem for each: the problems differ in their numbers only."""
    records = list(many_records(PROBLEMS, ROWS, SEEDS))
    assert len(records) == 10_000
    for record in records:
        write_curve(tmp_path, record)
    with without_drawing():
        write_reports(tmp_path, records, tmp_path / "out")
    (first,) = comparisons([record for record in records if record.data == "problem-0"])
    curves = read_curves(tmp_path, first)
    figures = section_figures(tmp_path, analysed(tmp_path, first, curves), curves, ())
    drawn = sum(len(drawing(figure, "", f"f-{name}-").svg.encode()) for name, figure in figures.items())
    assert len(figures) >= 4 and drawn > 100_000
    size = (tmp_path / "out" / PAGE).stat().st_size
    assert size + PROBLEMS * drawn < LARGEST, (size, drawn)
    assert len(data_of(read_page(tmp_path / "out" / PAGE))["runs"]) == len(records)


def test_a_run_takes_few_bytes(tmp_path: Path) -> None:
    """What a further seed adds to the page, which most of a large page consists of."""
    sizes = []
    for seeds in (8, 16):
        records = [make_record(seed=seed, epochs=EPOCHS, steps=10 * EPOCHS) for seed in range(seeds)]
        write_runs(tmp_path / str(seeds), records)
        with without_drawing():
            write_reports(tmp_path / str(seeds), records, tmp_path / f"out-{seeds}")
        sizes.append((tmp_path / f"out-{seeds}" / PAGE).stat().st_size)
    assert (sizes[1] - sizes[0]) / 8 < 600
