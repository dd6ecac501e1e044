"""The record of a measurement of training steps: every time that was taken, and nothing derived from them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.records.files import atomic_write_text, storage_error
from bench.records.names import ShortName, checked_short_name, inside
from bench.records.reading import Damaged, in_one_line, read_json
from bench.records.store import RecordError

SPEED_SCHEMA_VERSION: Literal[1] = 1

_ENDING = ".json"
_ADVICE = "measure again with `python -m bench.speed`, or move this file away."
# Measured numbers: neither negative nor infinite.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]

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
    tasks: Positive
    inputs: Positive
    batch_size: Positive
    image_size: tuple[Positive, Positive]
    parameters: Positive

    @model_validator(mode="after")
    def _names_a_file(self) -> WorkloadRecord:
        if not self.series:  # a series has a table for all its workloads, the others have one each
            checked_short_name(self.key)
        return self


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
    seconds: list[Amount] = Field(default_factory=list)
    peak_mib: Amount | None = None
    error: str = _stored_as("fault", "error", default="")


class SpeedRecord(_Part):
    """A measurement.

    machine: the name of its file.
    settings: of our runs, other than the defaults, dotted.
    workloads: "shapes" in the files.
    """

    schema_version: Literal[1] = SPEED_SCHEMA_VERSION
    machine: ShortName
    device: str
    threads: Positive
    rounds: int = Field(ge=0)
    size: str
    settings: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    workloads: list[WorkloadRecord] = _stored_as("shapes", "workloads")
    cells: list[Cell]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> SpeedRecord:
        counts = Counter(workload.key for workload in self.workloads)
        if repeated := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"shapes: expected each key once, found {repeated[0]!r} again")
        if unknown := [cell.workload for cell in self.cells if cell.workload not in counts]:
            raise ValueError(f"cells: expected shapes of the measurement, found {unknown[0]!r:.80}")
        return self


def write_speed(folder: Path, record: SpeedRecord) -> Path:
    """Writes `<machine>.json` and returns its path."""
    return atomic_write_text(_path(folder, record), record.model_dump_json(indent=1) + "\n")


def _path(folder: Path, record: SpeedRecord) -> Path:
    return inside(folder, f"{record.machine}{_ENDING}")


def read_speeds(folder: Path) -> list[SpeedRecord]:
    """All measurements in a folder, by name; none if there is no such folder.

    Raises:
        RecordError: some aren't measurements of steps; the message has a line for each.
    """
    if not os.path.lexists(folder):
        return []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == _ENDING)
    except OSError as error:
        raise RecordError(str(storage_error(folder, error))) from error
    speeds, errors = [], []
    for path in paths:
        try:
            speeds.append(_read(path))
        except RecordError as error:
            errors.append(str(error))
    if errors:
        raise RecordError("\n".join(errors))
    return speeds


def _read(path: Path) -> SpeedRecord:
    try:
        record = SpeedRecord.model_validate(read_json(path))
        if path != _path(path.parent, record):
            raise Damaged(f"expected the machine {path.stem!r}, as the file is named, found {record.machine!r}")
        return record
    except Damaged as error:
        raise RecordError(f"{path}: {error}; {_ADVICE}") from error
    except ValidationError as error:
        raise RecordError(f"{path}: expected a measurement of steps: {in_one_line(error)}; {_ADVICE}") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error


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
