"""The page of very many runs stays small enough for a browser."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from page_parts import data_of, read_page
from record_factory import METHODS, make_record, without_drawing, write_runs

from bench.records.record import Labels, Order, Record
from bench.records.store import CURVE, run_folder
from bench.reporting.comparison import comparisons
from bench.reporting.page.drawing import drawing
from bench.reporting.page.render import PAGE
from bench.reporting.reports import write_reports
from bench.reporting.sections import analysed, section_figures

PROBLEMS, ROWS, SEEDS, EPOCHS = 20, 50, 10, 60
LARGEST = 10 * 2**20  # bytes


def many_records() -> list[Record]:
    records = []
    for problem in range(PROBLEMS):
        for row in range(ROWS):
            method = METHODS[row % len(METHODS)]
            own = {"train.lr": 0.001 * row} if row >= len(METHODS) else {}
            key = f"{method.lower()}@{row:08x}" if own else method.lower()
            given = {"epochs": EPOCHS, "steps": 10 * EPOCHS, "overrides": own, "variant": key}
            given["settings"] = {"train": {"epochs": EPOCHS, "lr": own.get("train.lr", 0.5)}, "weighting": {}}
            labels, order = Labels(data=f"Problem {problem}", method=method), Order(data=problem, method=row % 9)
            for seed in range(SEEDS):
                draw = random.Random(f"{problem} {row} {seed}")
                run = make_record("digits", method, seed, labels=labels, order=order, **given)
                test = {task.key: {"accuracy": draw.uniform(0.8, 0.9)} for task in run.tasks}
                records.append(run.model_copy(update={"data": f"problem-{problem}", "test": test}))
    return records


def write_curves(results: Path, records: list[Record]) -> None:
    """Only the curves, as reports need them; each run has noise of its own, which no compression would shorten."""
    for number, record in enumerate(records):
        folder = run_folder(results, record.data, record.variant, record.seed)
        folder.mkdir(parents=True)
        draw = random.Random(number)
        scores = (0.85 * (1 - math.exp(-0.2 * epoch)) + draw.gauss(0, 0.01) for epoch in range(EPOCHS))
        lines = (f"{epoch},{10 * epoch},{0.4 * epoch},{score}\n" for epoch, score in enumerate(scores, start=1))
        (folder / CURVE).write_text("epoch,step,seconds,score\n" + "".join(lines), encoding="utf-8")


@pytest.mark.slow
def test_the_page_of_ten_thousand_runs(tmp_path: Path) -> None:
    """With the drawings of one problem for each: the problems differ in their numbers only."""
    records = many_records()
    assert len(records) == 10_000
    write_curves(tmp_path, records)
    with without_drawing():
        write_reports(tmp_path, records, tmp_path / "out")
    (first,) = comparisons([record for record in records if record.data == "problem-0"])
    figures = section_figures(tmp_path, analysed(tmp_path, first), ())
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
