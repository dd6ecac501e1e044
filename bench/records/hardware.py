"""The record of a check of an accelerator: every check with what was measured for it, and every time that was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.records.files import atomic_write_text, storage_error
from bench.records.names import ShortName, inside
from bench.records.reading import Damaged, in_one_line, read_json
from bench.records.store import RecordError

HARDWARE_SCHEMA_VERSION: Literal[1] = 1
RECORD, PAGE = "record.json", "README.md"

_ADVICE = "check again with `./run_all.sh gpu-check`, or move this file away."
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]
# "noted": measured, and no reason to fail. "not run": the detail says why.
Outcome = Literal["passed", "failed", "noted", "not run"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Check(_Part):
    """One check.

    part: what is checked, as "parity" or "waits".
    group: on what, as "digits, hps".
    subject: the method or setting that is checked.
    detail: a sentence on a check that has not passed.
    measured: numbers by name; docs/gpu.md explains them.
    """

    part: str
    group: str
    subject: str
    outcome: Outcome
    detail: str = ""
    measured: dict[str, float] = Field(default_factory=dict)


class Speed(_Part):
    """Training steps of one method with one setting.

    workload: its key and label.
    setting: other than the defaults, "" for none.
    images: of a step, of all inputs together.
    seconds: of each step after the warm-up.
    peak_mib: what the steps add to the memory of tensors on the device, or of the process on a CPU; None if not known.
    """

    workload: str
    label: str
    method: str
    setting: str
    images: Positive
    seconds: list[Amount] = Field(min_length=1)
    peak_mib: Amount | None = None


class HardwareRecord(_Part):
    """A check of one accelerator.

    machine: the name of its folder.
    device: its type; "cpu" for a rehearsal, in which a CPU is compared with itself.
    date: when the check began, in UTC, as 2031-05-04T12:30:00+00:00.
    environment: model, driver, versions, commit.
    settings: of the check: bounds, seconds, what was chosen.
    seconds: that each part took.
    """

    schema_version: Literal[1] = HARDWARE_SCHEMA_VERSION
    machine: ShortName
    device: str
    date: str
    environment: dict[str, Any]
    settings: dict[str, Any]
    seconds: dict[str, Amount]
    checks: list[Check]
    speeds: list[Speed]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]


def hardware_folder(root: Path, machine: str) -> Path:
    """The folder of a machine's record and page."""
    return inside(root, machine)


def write_hardware(root: Path, record: HardwareRecord) -> Path:
    """Writes `<machine>/record.json` and returns its path."""
    path = hardware_folder(root, record.machine) / RECORD
    return atomic_write_text(path, record.model_dump_json(indent=1) + "\n")


def read_hardware(path: Path) -> HardwareRecord:
    """A record that `write_hardware` wrote.

    Raises:
        RecordError: it is none, or can't be read.
    """
    try:
        return HardwareRecord.model_validate(read_json(path))
    except Damaged as error:
        raise RecordError(f"{path}: {error}; {_ADVICE}") from error
    except ValidationError as error:
        raise RecordError(f"{path}: expected the check of an accelerator: {in_one_line(error)}; {_ADVICE}") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error
