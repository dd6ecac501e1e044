"""Runs that several processes train: the same scores as one process, and all end together whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from data_trees import write_digits

from bench import ROOT
from bench.engine.context import RunContext
from bench.launch.config import LaunchConfig
from bench.launch.data_parallel import ProcessFailed, data_parallel
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.records.claim import holder_of
from bench.records.record import Record
from bench.records.store import CHECKPOINT, RECORD, read_record
from bench.spec.resolve import RunSpec, resolve

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"))


def spec_of(processes: int, epochs: int = 3, method: str = "normal") -> RunSpec:
    return resolve(
        "digits",
        method,
        assignments={"train.epochs": epochs, "train.batch_size": 8, "compute.processes": processes},
    )


def launched(specs: list[RunSpec], data: Path, results: Path, act: Callable[[Event], None]) -> dict[int, Record]:
    """The records by the number of processes; act(event) sees each event."""
    config = LaunchConfig({"digits": data}, results, "cpu", 1, expiry=5)

    run_locally(specs, config, 1, act)
    return {spec.settings.compute.processes: read_record(config.folder(spec) / RECORD) for spec in specs}


def further_processes(worker: int) -> list[psutil.Process]:
    """Those that a worker's own fork server has started."""
    children = psutil.Process(worker).children(recursive=True)
    return [process for process in children if process.ppid() != worker]


def same_scores(one: Record, other: Record) -> None:
    for part in ("test", "validation", "last_test", "positions"):
        found, expected = (torch.tensor(numbers(getattr(record, part))) for record in (one, other))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def numbers(tree: Any) -> list[float]:
    return [number for entry in tree.values() for number in numbers(entry)] if isinstance(tree, dict) else [tree]


@pytest.mark.slow
def test_a_run_whose_further_process_is_killed_goes_on_with_the_scores_of_one_process(
    data: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    seen: list[psutil.Process] = []

    def act(event: Event) -> None:
        notes.extend([event.note] if event.kind == "note" else [])
        if event.spec.settings.compute.processes == 2 and (event.kind, event.epochs) == ("epoch", 1):
            holder = holder_of(tmp_path / "digits" / event.spec.variant / "seed-0")
            assert holder is not None
            seen.extend(further_processes(holder.process))
            if not notes:
                (process,) = seen
                process.kill()

    records = launched([spec_of(1), spec_of(2)], data, tmp_path, act)
    assert [note.split(" (")[0] for note in notes] == ["its process was lost after epoch 1"]
    assert "SIGKILL" in records[2].lost[0]
    same_scores(records[2], records[1])
    assert seen and not any(process.is_running() for process in seen)


def test_an_error_of_a_further_process_ends_the_run_with_its_message(tmp_path: Path) -> None:
    context = RunContext(tmp_path / "absent", tmp_path, CPU, 1)
    before = time.monotonic()
    failed = pytest.raises(ProcessFailed, match=r"process 2 of 2: DataError: .*absent")
    with failed, data_parallel(spec_of(2), context) as parallel:
        parallel.average([torch.ones(3)])
    assert time.monotonic() - before < 60


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_all_processes_of_a_run_end_with_their_command(number: int, data: Path, tmp_path: Path) -> None:
    request = ["--method", "ew", "--data", "digits", "--seeds", "0", "--epochs", "5000", "--jobs", "1"]
    where = ["--data-root", str(data.parent), "--results", str(tmp_path), "--device", "cpu"]
    settings = ["--set", "train.batch_size=8", "compute.processes=2"]
    words = [sys.executable, "-m", "bench.run", *request, *where, *settings]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as command:
        try:
            until = time.monotonic() + 300
            while not list(tmp_path.rglob(CHECKPOINT)):
                assert time.monotonic() < until and command.poll() is None
                time.sleep(0.1)
            started = psutil.Process(command.pid).children(recursive=True)
            assert len(started) == 5  # a resource tracker, two fork servers, two processes of the run
            command.send_signal(number)
            until = time.monotonic() + 5 + 25  # for the worker, and for fork servers to unload what they have imported
            while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started):
                assert time.monotonic() < until
                time.sleep(0.1)
            _, error = command.communicate()
        finally:
            command.kill()
    assert command.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(signal.Signals(number), -number)
    assert "Traceback" not in error
