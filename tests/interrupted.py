"""Runs that crash after every step, each time with a checkpoint in the middle of an epoch, and what they leave."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic_splits import random_splits

from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.records.items import ITEMS
from bench.records.record import Record
from bench.records.store import CURVE, write_record
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS

CPU = torch.device("cpu")
TIMES = {"seconds", "step_seconds", "peak_memory_mib", "idle_memory_mib"}


class Crash(Exception):
    """The process dies after a checkpoint."""


def give_random_images(patch: pytest.MonkeyPatch, data: str, validation: bool = True) -> None:
    """A data set becomes a few random images."""
    info = DATASETS[data]
    splits = random_splits(info, validation=validation)
    patch.setitem(DATASETS, data, dataclasses.replace(info, read=lambda *_: splits))  # type: ignore[arg-type]


def spec_of(method: str, data: str = "digits", **settings: object) -> RunSpec:
    """Two epochs of two steps."""
    return resolve(data, method, assignments={"train.epochs": 2, "train.batch_size": 12, **settings})


def whole(spec: RunSpec, folder: Path, device: torch.device = CPU) -> Record:
    """A run that nothing interrupts, and that saves nothing in the middle of an epoch."""
    record = train(spec, RunContext(folder, folder, device, 1, checkpoint_every=1e9), lambda epochs: None)
    write_record(folder, record)
    return record


def crashed_at_every_step(spec: RunSpec, folder: Path, device: torch.device = CPU) -> tuple[Record, list[float]]:
    """The record of a run whose process dies after each step, and where: in epochs that were done."""
    places: list[float] = []

    def die(epochs: int, share: float) -> None:
        if epochs + share not in places:
            places.append(epochs + share)
            raise Crash

    while True:
        context = RunContext(folder, folder, device, 1, checkpoint_every=0)
        try:
            notes: list[str] = []
            record = train(spec, context, lambda epochs: None, notes.append, on_checkpoint=die)
        except Crash:
            continue
        finally:
            assert not notes, notes
        write_record(folder, record)
        return record, places


def numbers(record: Record, folder: Path) -> Mapping[str, Any]:
    """Everything that a run has left but times: its record and its files. NaN equals NaN."""
    found: dict[str, Any] = {"record": repr(record.model_dump(exclude=TIMES))}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            found[path.name] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    found["items"] = (folder / ITEMS).read_bytes() if (folder / ITEMS).exists() else b""
    assert CURVE in found
    return found
