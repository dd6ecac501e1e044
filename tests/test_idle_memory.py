"""What a run adds to the memory of its worker, whichever runs that has trained before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine.device import peak_memory_mib, reset_peak_memory
from bench.engine.idle_memory import idle_memory_mib, memory_before_run
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.records.record import Record
from bench.spec.resolve import RunSpec, resolve
from datasets import find

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system keeps no peak")

CPU = torch.device("cpu")
NEAR = 15  # MiB; two runs of the same settings differed by 5 at most, when this was written


def spec(seed: int, batch_size: int) -> RunSpec:
    return resolve("digits", "ew", seed=seed, assignments={"train.epochs": 1, "train.batch_size": batch_size})


def records_of(specs: Sequence[RunSpec], data_root: Path, results: Path) -> list[Record]:
    """Trains the runs one after another in one worker."""
    data = find("digits", data_root)
    assert data is not None
    events: list[Event] = []
    run_locally(specs, LaunchConfig({"digits": data}, results, "cpu", 1), 1, events.append)
    return [event.record for event in events if event.record is not None]


def added(record: Record) -> float:
    assert record.peak_memory_mib is not None and record.idle_memory_mib is not None, record.reason
    return record.peak_memory_mib - record.idle_memory_mib


@pytest.mark.slow
def test_a_run_adds_as_much_after_a_larger_one_as_before(data_root: Path, tmp_path: Path) -> None:
    first, large, last = records_of([spec(0, 64), spec(0, 1024), spec(1, 64)], data_root, tmp_path)
    assert (first.seed, last.seed) == (0, 1)
    assert 1 < 2 * added(first) < added(large)
    assert added(last) == pytest.approx(added(first), abs=NEAR)
    # The process itself is many times as large, and has grown by then: by packages that the first run needed.
    assert first.idle_memory_mib is not None and last.idle_memory_mib is not None
    assert first.idle_memory_mib > 5 * added(first)


def allocate(connection: Connection) -> None:
    """Sends the peak and the idle memory around 200 MiB, and again around none."""
    for size in (200, 0):
        before = memory_before_run(CPU)
        reset_peak_memory(CPU)
        held = [np.ones(2**17) for _ in range(size)]  # 1 MiB each
        peak, idle = peak_memory_mib(CPU), idle_memory_mib(before, CPU)
        del held
        connection.send((peak, idle))
    os._exit(0)


def test_the_peak_is_that_since_the_reset() -> None:
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=allocate, args=(theirs,))
    process.start()
    (first_peak, first_idle), (second_peak, second_idle) = ours.recv(), ours.recv()
    process.join()
    assert first_peak - first_idle == pytest.approx(200, abs=NEAR)
    assert second_peak - second_idle == pytest.approx(0, abs=NEAR)
