"""What is kept of a measurement of training steps: every time that was taken, raw; nothing derived."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.records.store import RecordError, atomic_write

SPEED_SCHEMA_VERSION: Literal[1] = 1

OURS = "ours"
FLOOR = "floor"
# Which backward passes a method takes when done the plain way: one of the weighted losses, or one for each task.
Passes = Literal["one", "per task"]
# What a shape is varied in: nothing, the number of tasks, or the number of shared parameters.
Series = Literal["", "tasks", "parameters"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ShapeRecord(_Part):
    """On what work the steps were timed. parameters: shared ones. inputs: images of a batch = inputs × batch_size."""

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
    """One contestant with one method on one shape.

    method: its key, and `label` as published; "" for the floor, of which there is one for each kind of `passes`.
    contestant: OURS, FLOOR, or a package's name. seconds: of a step, by round; the same round of other cells of the
    shape was measured within the same minute or so. peak_mib: what two steps of a process of its own take beyond
    network and batch; None where it wasn't measured. fault: what the contestant raised, in one line; it has no
    seconds then.
    """

    shape: str
    method: str
    label: str
    contestant: str
    passes: Passes
    seconds: list[float] = Field(default_factory=list)
    peak_mib: float | None = None
    fault: str = ""


class SpeedRecord(_Part):
    """A measurement. machine: names the file. settings: of our runs that aren't the defaults, dotted."""

    schema_version: Literal[1] = SPEED_SCHEMA_VERSION
    machine: str
    device: str
    threads: int
    rounds: int
    size: str
    settings: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    shapes: list[ShapeRecord]
    cells: list[Cell]


def write_speed(folder: Path, record: SpeedRecord) -> Path:
    """Writes `<machine>.json`, whole or not at all, and says where."""
    path = folder / f"{record.machine}.json"
    atomic_write(
        path, lambda temporary: temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    )
    return path


def read_speeds(folder: Path) -> list[SpeedRecord]:
    """All measurements in a folder, by name; none where there is no such folder.

    Raises:
        RecordError: a file isn't such a record.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> SpeedRecord:
    try:
        return SpeedRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise RecordError(f"{path}: expected a measurement of steps, found at {place!r}: {fault['msg']}.") from error
