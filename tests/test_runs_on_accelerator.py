"""Whole runs on the pretend device: epochs, evaluation, checkpoints, resuming and records, as on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretend.counts import Counts, counting
from pretend.device import DEVICE, available
from synthetic_splits import random_splits

from bench import ROOT, run
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.records.all_records import read_records
from bench.records.record import Record
from bench.records.store import CHECKPOINT
from bench.spec.resolve import resolve
from datasets import DATASETS

CPU = torch.device("cpu")
FROM_SCRATCH = {"backbone.weights": "none"}
OTHERS = (("mgda", "faces"), ("ew", "rooms"), ("normal", "rooms"), ("ew", "celeba"))


class Stop(Exception):
    """A crash in the middle of a run."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set becomes a few random images."""
    for data, info in DATASETS.items():
        splits = random_splits(info)
        monkeypatch.setitem(DATASETS, data, replace(info, read=lambda *_, splits=splits: splits))  # type: ignore[misc]


def trained(
    method: str,
    data: str,
    folder: Path,
    device: torch.device,
    stop_after: int = 0,
    batch_size: int = 4,
    **settings: object,
) -> tuple[Record, Counts]:
    """The record of a run of two epochs, and what it cost on the pretend device."""
    few = {"train.epochs": 2, "train.batch_size": batch_size}
    spec = resolve(data, method, assignments={**few, **FROM_SCRATCH, **settings})

    def on_epoch(epochs: int) -> None:
        if epochs and epochs == stop_after:
            raise Stop

    with available(), counting() as counts:
        record = train(spec, RunContext(folder, folder, device, 1), on_epoch)
        return record, counts()


def outcome(record: Record) -> Mapping[str, object]:
    """What a record says of the numbers of its run."""
    kept = ("status", "reason", "test", "validation", "last_test", "selected", "positions", "steps", "solver_fallbacks")
    return {key: value for key, value in record.model_dump().items() if key in kept}


def curves(folder: Path) -> dict[str, list[list[str]]]:
    """The files of a run's curves, without the seconds."""
    tables = {path.name: [row.split(",") for row in path.read_text().splitlines()] for path in folder.glob("*.csv")}
    for table in tables.values():
        if "seconds" in table[0]:
            index = table[0].index("seconds")
            for row in table:
                del row[index]
    return tables


def same(found: object, expected: object) -> bool:
    """Equal, except for what float64 rounds in sums over the pixels of a split (datasets/metrics.py)."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    try:
        return bool(found == expected or float(found) == pytest.approx(float(expected), rel=1e-13, abs=0))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize(
    ("method", "data"),
    [("normal", "digits"), *(pytest.param(*some, marks=pytest.mark.slow) for some in OTHERS)],
)
def test_a_run_equals_that_of_the_cpu_and_resumes_on_the_device(
    method: str, data: str, tmp_path: Path, small: None
) -> None:
    on_cpu, nothing = trained(method, data, tmp_path / "cpu", CPU)
    assert nothing.operations == 0 and not nothing.events
    on_device, _ = trained(method, data, tmp_path / "device", DEVICE)
    assert on_device.environment["device"] == "pretend: Pretend 1" and on_device.peak_memory_mib
    assert on_cpu.status == "done" and same(outcome(on_device), outcome(on_cpu))
    assert same(curves(tmp_path / "device"), curves(tmp_path / "cpu"))
    with pytest.raises(Stop):
        trained(method, data, tmp_path / "resumed", DEVICE, stop_after=1)
    assert (tmp_path / "resumed" / CHECKPOINT).is_file()
    resumed, _ = trained(method, data, tmp_path / "resumed", DEVICE)
    assert outcome(resumed) == outcome(on_device) and not resumed.resumed
    assert curves(tmp_path / "resumed") == curves(tmp_path / "device")


@pytest.mark.parametrize("first, second", [(DEVICE, DEVICE), (CPU, DEVICE), (DEVICE, CPU)])
def test_a_running_mean_of_weights_is_resumed_on_any_device(
    first: torch.device, second: torch.device, tmp_path: Path, small: None
) -> None:
    mean = {"weighting.momentum": 0.9}
    whole, _ = trained("rlw", "digits", tmp_path / "whole", CPU, **mean)
    with pytest.raises(Stop):
        trained("rlw", "digits", tmp_path / "resumed", first, stop_after=1, **mean)
    resumed, _ = trained("rlw", "digits", tmp_path / "resumed", second, **mean)
    assert outcome(resumed) == outcome(whole)
    assert curves(tmp_path / "resumed") == curves(tmp_path / "whole")


def test_the_waits_of_an_epoch_do_not_grow_with_its_steps(tmp_path: Path, small: None) -> None:
    """Losses and weights stay on the device until the epoch ends."""
    costs = {size: trained("ew", "digits", tmp_path / str(size), DEVICE, batch_size=size) for size in (4, 8)}
    (few, waits), (many, more_waits) = [(costs[size][0].steps, costs[size][1]) for size in (8, 4)]
    assert many == 2 * few
    assert more_waits.waits == waits.waits, f"{few} steps: {waits}\n{many} steps: {more_waits}"


@pytest.mark.slow
def test_the_command_trains_on_the_device_with_workers_and_resumes(data_root: Path, tmp_path: Path) -> None:
    arguments = ["--method", "ew", "--data", "digits", "--epochs", "3", "--seeds", "0", "--set", "train.batch_size=128"]
    arguments += ["--data-root", str(data_root)]
    assert run.main([*arguments, "--device", "cpu", "--results", str(tmp_path / "cpu")]) == 0
    command = [sys.executable, "-m", "pretend.run", *arguments, "--results", str(tmp_path / "device")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as first:
        _wait_for_checkpoint(tmp_path / "device", first)
        first.send_signal(signal.SIGINT)
        first.communicate()
    assert first.returncode == 130
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "on pretend" in again.stdout
    (on_cpu,), (on_device,) = read_records(tmp_path / "cpu"), read_records(tmp_path / "device")
    assert on_device.environment["device"] == "pretend: Pretend 1"
    assert outcome(on_device) == outcome(on_cpu)


def _wait_for_checkpoint(results: Path, command: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not list(results.rglob(CHECKPOINT)):
        assert command.poll() is None and time.monotonic() < until, "the command has written no checkpoint"
        time.sleep(0.02)
