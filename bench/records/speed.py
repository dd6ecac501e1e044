"""The record of a measurement of training steps: every time that was taken, and nothing derived from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from bench.records.files import atomic_write_text, matching, storage_error
from bench.records.store import RecordError

SPEED_SCHEMA_VERSION: Literal[1] = 1

OURS = "ours"
# The autograd baseline; the word in the files is older than the name.
BASELINE = "floor"
# The backward passes of a plain implementation: one of the weighted losses, or one for each task.
Passes = Literal["one", "per task"]
# What varies in a series of workloads: nothing, the number of tasks, or the number of shared parameters.
Series = Literal["", "tasks", "parameters"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


def _stored_as(key: str, name: str, **options: Any) -> Any:
    """A field that has another name in the files."""
    return Field(validation_alias=AliasChoices(key, name), serialization_alias=key, **options)


class WorkloadRecord(_Part):
    """What the steps were timed on.

    series: what varies in the series that it belongs to.
    inputs: images of a batch = inputs × batch_size.
    parameters: how many are shared.
    """

    key: str
    label: str
    data: str
    series: Series = ""
    tasks: int
    inputs: int
    batch_size: int
    image_size: tuple[int, int]
    parameters: int


class Cell(_Part):
    """One method of one candidate on one workload.

    workload: its key; "shape" in the files.
    method: its key, and `label` as published; "" for the autograd baselines, one for each kind of `passes`.
    candidate: OURS, BASELINE, or the name of a package; "contestant" in the files.
    seconds: of a step, by round. Cells of the same workload were measured in the same rounds.
    peak_mib: memory of two steps in a process of their own beyond network and batch; None if not measured.
    error: what the candidate raised, in one line; there are no seconds then. "fault" in the files.
    """

    workload: str = _stored_as("shape", "workload")
    method: str
    label: str
    candidate: str = _stored_as("contestant", "candidate")
    passes: Passes
    seconds: list[float] = Field(default_factory=list)
    peak_mib: float | None = None
    error: str = _stored_as("fault", "error", default="")


class SpeedRecord(_Part):
    """A measurement.

    machine: the name of its file.
    settings: of our runs, other than the defaults, dotted.
    workloads: "shapes" in the files.
    """

    schema_version: Literal[1] = SPEED_SCHEMA_VERSION
    machine: str
    device: str
    threads: int
    rounds: int
    size: str
    settings: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    workloads: list[WorkloadRecord] = _stored_as("shapes", "workloads")
    cells: list[Cell]


def write_speed(folder: Path, record: SpeedRecord) -> Path:
    """Writes `<machine>.json` and returns its path."""
    return atomic_write_text(folder / f"{record.machine}.json", record.model_dump_json(indent=1) + "\n")


def read_speeds(folder: Path) -> list[SpeedRecord]:
    """All measurements in a folder, by name; none if there is no such folder.

    Raises:
        RecordError: a file isn't a measurement of steps. StorageError: a file or folder can't be read.
    """
    return [_read(path) for path in matching(folder, "*.json")]


def _read(path: Path) -> SpeedRecord:
    try:
        return SpeedRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise storage_error(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: expected a measurement of steps, found at {place!r}: {first['msg']}.") from error


def merged(earlier: SpeedRecord | None, new: SpeedRecord) -> SpeedRecord:
    """The new measurement with the other workloads of an earlier one, which keep their places.

    An earlier one is dropped unless machine, device, size, threads and settings are the same.
    """
    if earlier is None or _circumstances(earlier) != _circumstances(new):
        return new
    replaced = {workload.key: workload for workload in new.workloads}
    workloads = [replaced.pop(old.key, old) for old in earlier.workloads] + list(replaced.values())
    measured = {workload.key for workload in new.workloads}
    cells = [cell for cell in earlier.cells if cell.workload not in measured] + new.cells
    order = [workload.key for workload in workloads]
    cells.sort(key=lambda cell: order.index(cell.workload))
    return new.model_copy(update={"workloads": workloads, "cells": cells})


def _circumstances(record: SpeedRecord) -> tuple[object, ...]:
    return record.machine, record.device, record.size, record.threads, record.settings
