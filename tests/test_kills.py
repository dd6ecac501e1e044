"""Commands killed with SIGKILL, with all their processes: the same command goes on, and its numbers are the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from data_trees import write_digits
from kills import RUNS, differences, kill_at, numbers, soak
from kills_in_epochs import soak as soak_in_epochs
from kills_in_epochs import specs_of

from bench import run
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.records.claim import CLAIM
from bench.records.store import CHECKPOINT, run_folder, write_record
from bench.spec.resolve import resolve

ASSIGNMENTS = {"train.epochs": 12, "train.batch_size": 8, "weighting.every": 2}
REQUEST = ("--method", "nash_mtl", "--data", "digits", "--seeds", "0", "--device", "cpu", "--jobs", "1")


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_with_the_same_numbers(tmp_path: Path) -> None:
    """The first kill hits at a random instant after the run is claimed, the second after an epoch is done."""
    spec, source = resolve("digits", "nash_mtl", assignments=ASSIGNMENTS), write_digits(tmp_path / "data")
    data_root = source.parent
    whole, killed = (run_folder(tmp_path / name, "digits", spec.variant, 0) for name in ("whole", "killed"))
    write_record(whole, train(spec, RunContext(source, whole, torch.device("cpu"), 1), lambda epochs: None))
    request = [*REQUEST, "--set", *(f"{key}={value}" for key, value in ASSIGNMENTS.items())]
    generator = random.Random(14)
    for file in (CLAIM, CHECKPOINT):
        seen: list[float] = []
        wait = generator.uniform(0, 0.3)

        def due(seconds: float, file: str = file, seen: list[float] = seen, wait: float = wait) -> bool:
            if (killed / file).exists():
                seen.append(seconds)
            return bool(seen) and seconds > seen[0] + wait

        hits = kill_at(request, tmp_path / "killed", data_root, due)
        assert hits
    assert hits[0].epochs >= 1
    where = ["--results", str(tmp_path / "killed"), "--data-root", str(data_root)]
    assert run.main([*request, *where]) == 0
    assert not differences(numbers(tmp_path / "killed"), numbers(tmp_path / "whole"))
    assert not (killed / CHECKPOINT).exists()


@pytest.mark.slow
def test_runs_that_are_killed_at_random_instants_end_with_the_same_numbers(data_root: Path, tmp_path: Path) -> None:
    figures = soak(30, 0, data_root, tmp_path)
    assert len(figures.hits) >= 30 and figures.runs >= RUNS and not figures.differences


@pytest.mark.slow
def test_runs_whose_processes_are_killed_in_the_middle_of_epochs_end_with_the_same_numbers(tmp_path: Path) -> None:
    """Further processes of a run, too."""
    figures = soak_in_epochs(20, 0, tmp_path, specs_of(["nash_mtl", "modo"], ["normal"]))
    assert len(figures.kills) == 20 and not figures.differences
    assert sum(kill.steps > 0 for kill in figures.kills) >= 10
    assert any(kill.processes == 2 for kill in figures.kills)
