"""Positions and cosines that contradict their records, of a run that is trained for real, are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_trees import write_digits
from exchange_cases import made, printed, refused, write_runs

from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.records.items import ITEMS
from bench.records.store import COSINES, POSITIONS, RECORD, run_folder
from bench.spec.resolve import resolve

SETTINGS = {"train.epochs": 2, "train.batch_size": 8, "train.cosines_every": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with two seeds of NORMAL."""
    root = tmp_path_factory.mktemp("trained")
    data = write_digits(root)
    for seed in (0, 1):
        spec = resolve("digits", "normal", seed=seed, assignments=SETTINGS)
        folder = run_folder(root / "results", *spec.key)
        folder.mkdir(parents=True)
        train(spec, RunContext(data, folder, torch.device("cpu"), 1), lambda epochs: None)
    return root / "results"


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        record = json.loads((run / RECORD).read_text())
        change(record)
        (run / RECORD).write_text(json.dumps(record, indent=1))

    return edit


def swapped(run: Path) -> None:
    other = run.with_name("seed-1")
    mine, theirs = (folder / POSITIONS for folder in (run, other))
    text = mine.read_text()
    mine.write_text(theirs.read_text())
    theirs.write_text(text)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no positions.csv": (lambda run: (run / POSITIONS).unlink(), f"{POSITIONS}: expected this table of a run"),
    "those of another seed": (swapped, f"{POSITIONS}: plain: expected"),
    "one row": (
        lambda run: (run / POSITIONS).write_text("".join((run / POSITIONS).read_text().splitlines(keepends=True)[:2])),
        "expected a row for each of the",
    ),
    "other tasks": (
        lambda run: (run / POSITIONS).write_text((run / POSITIONS).read_text().replace("noisy", "calm")),
        "expected the columns step and one for each task",
    ),
    "other positions": (
        edited(lambda record: record["positions"].update(plain=9.0)),
        f"{POSITIONS}: plain: expected 9 at step",
    ),
    "no positions": (edited(lambda record: record.update(positions={})), "positions: expected one for each task"),
    "no cosines.csv": (lambda run: (run / COSINES).unlink(), f"{COSINES}: expected this table of a run"),
    "cosines of other tasks": (
        lambda run: (run / COSINES).write_text("step,plain|nosuch\n1,0.5\n"),
        "one for each pair of tasks",
    ),
    "cosines of no step": (
        lambda run: (run / COSINES).write_text(re.sub(r"\n[0-9]+,", "\n5000,", (run / COSINES).read_text(), count=1)),
        "in their order, found others",
    ),
    "no digest of the items": (edited(lambda record: record.update(items="")), f"{ITEMS}: expected its digest"),
    "part of a fingerprint": (
        edited(lambda record: record["fingerprint"].pop("whole")),
        "fingerprint: expected train, validation, test and whole",
    ),
}


def test_trained_runs_pass(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 done" in (out := printed(capsys, "check", trained)) and "left out" not in out


@pytest.mark.parametrize("name", BAD)
def test_what_contradicts_the_record_is_refused(
    name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    (run,) = (tmp_path / "copy").glob("*/*/seed-0")
    change, message = BAD[name]
    change(run)
    assert message in refused(capsys, "check", tmp_path / "copy")


@pytest.mark.parametrize("name", [POSITIONS, COSINES])
def test_tables_that_a_run_has_not_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, [made()])
    (run_folder(tmp_path, "digits", "ew", 0) / name).write_text("step,plain,colour,outline,noisy\n1,1,1,1,1\n")
    assert f"{name}: expected no such table" in refused(capsys, "check", tmp_path)


@pytest.mark.parametrize("seeds", [5, None, [[]], [{}], [True], "5"])
def test_twins_with_other_things_than_seeds_of_sources_are_refused(
    seeds: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weighting = {"source": "digits/mgda", "source_seeds": seeds, "weights": [1.0]}
    write_runs(tmp_path, [made("Frozen", settings={"train": {"epochs": 10}, "weighting": weighting})])
    assert "source_seeds: expected a list of seeds" in refused(capsys, "check", tmp_path)
