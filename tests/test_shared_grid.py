"""Several commands on one folder of results, whose workers are killed: every run is done once, and nothing is lost."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from data_trees import write_digits

from bench import ROOT
from bench.records.all_records import read_records
from bench.records.claim import CLAIM, holder_of
from bench.records.items import ITEMS
from bench.records.store import CURVE, RECORD

METHODS = ("ew", "uw", "gradnorm", "mgda", "pcgrad", "imtl", "cagrad", "nash_mtl", "rlw", "dwa")
SEEDS = ("0", "1", "2", "3")
RUNS = len(METHODS) * len(SEEDS)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data")).parent


def command(data: Path, results: Path, *more: str, methods: Sequence[str] = METHODS) -> subprocess.Popen[str]:
    """Starts the same grid, in a session of its own."""
    request = ["--method", *methods, "--data", "digits", "--seeds", *SEEDS, "--set", "train.batch_size=8"]
    where = ["--data-root", str(data), "--results", str(results), "--device", "cpu", "--jobs", "1", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run", *request, "--epochs", "3", *where],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def a_worker(results: Path, draw: random.Random) -> int | None:
    """The process of a run that is being trained."""
    holders = [holder_of(path.parent) for path in results.rglob(CLAIM)]
    processes = sorted(holder.process for holder in holders if holder)
    return draw.choice(processes) if processes else None


def check(results: Path, trained: Sequence[str]) -> None:
    """Every run is done, by one command; only records, outcomes per item and curves are left."""
    records = read_records(results)
    assert Counter(record.status for record in records) == {"done": RUNS}
    assert not [path for path in results.rglob("*") if path.is_file() and path.name not in (RECORD, ITEMS, CURVE)]
    names = [f"{record.data} {record.variant} seed {record.seed}" for record in records]
    lines = [line for text in trained for line in text.splitlines() if re.match(r"\[\d+/", line)]
    ours = [line for line in lines if "another process trained it" not in line]
    assert Counter(next(name for name in names if f"{name}:" in line) for line in ours) == dict.fromkeys(names, 1)


@pytest.mark.slow
def test_a_grid_whose_workers_are_killed_ends_complete(data_folder: Path, tmp_path: Path) -> None:
    draw, killed = random.Random(0), 0
    with command(data_folder, tmp_path, "--retries", "40") as grid:
        while grid.poll() is None:
            time.sleep(draw.uniform(0.2, 2))
            process = a_worker(tmp_path, draw)
            if process and killed < 25:
                os.kill(process, signal.SIGKILL)
                killed += 1
        assert grid.stdout is not None
        text = grid.stdout.read()
    assert grid.returncode == 0, text
    assert killed >= 10
    check(tmp_path, [text])
    lost = sum(len(record.lost) for record in read_records(tmp_path))
    assert 0 < lost <= killed


@pytest.mark.slow
def test_three_commands_share_a_grid_and_one_is_stopped_for_longer_than_its_claim_holds(
    data_folder: Path, tmp_path: Path
) -> None:
    with (
        command(data_folder, tmp_path, "--expiry", "4") as first,
        command(data_folder, tmp_path, "--expiry", "4") as second,
        command(data_folder, tmp_path, "--expiry", "4") as third,
    ):
        draw = random.Random(1)
        while len(list(tmp_path.rglob(RECORD))) < 3 or not a_worker(tmp_path, draw):
            time.sleep(0.05)
        held = [path.parent for path in tmp_path.rglob(CLAIM)]
        os.killpg(first.pid, signal.SIGSTOP)
        time.sleep(12)
        os.killpg(first.pid, signal.SIGCONT)
        texts = [process.communicate(timeout=300)[0] for process in (first, second, third)]
    assert [process.returncode for process in (first, second, third)] == [0, 0, 0], texts
    check(tmp_path, texts)
    assert held and all((folder / RECORD).is_file() for folder in held)
