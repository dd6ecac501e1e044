"""Where records are stored: results/<data>/<variant>/seed-<s>/. Every write is atomic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pydantic import ValidationError

from bench.records.files import Guard, atomic_write, atomic_write_text
from bench.records.names import inside
from bench.records.record import SCHEMA_VERSION, Record, Status
from bench.records.upgrade import upgraded_record

RECORD = "record.json"
CURVE = "curve.csv"
POSITIONS = "positions.csv"
COSINES = "cosines.csv"
CHECKPOINT = "checkpoint.pt"

_WORTH: Mapping[Status, int] = {"failed": 0, "diverged": 1, "done": 2}


class RecordError(Exception):
    """A record that cannot be read; the message names the file, the error and what to do."""


def run_folder(results: Path, data: str, variant: str, seed: int) -> Path:
    """The folder of one run."""
    return inside(results, data, variant, f"seed-{seed}")


class _Better(Exception):
    """The record that is there says more."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


def write_record(folder: Path, record: Record, guard: Guard = nullcontext) -> Record:
    """Writes record.json, and returns the record that is there afterwards. guard: as in `atomic_write`.

    A record is not replaced by one of the same settings that says less: a finished run by one that failed.
    """

    @contextmanager
    def better() -> Iterator[None]:
        with guard():
            earlier = _read_if_valid(folder / RECORD)
            if earlier and earlier.settings == record.settings and _WORTH[earlier.status] > _WORTH[record.status]:
                raise _Better(earlier)
            yield

    try:
        atomic_write_text(folder / RECORD, record.model_dump_json(indent=1) + "\n", better)
    except _Better as found:
        return found.record
    return record


def _read_if_valid(path: Path) -> Record | None:
    try:
        return read_record(path) if path.is_file() else None
    except RecordError:
        return None


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]], guard: Guard = nullcontext) -> None:
    """Writes a table of numbers at full precision. guard: as in `atomic_write`."""
    import pandas  # slow to import, and every process that trains would do it before its first step

    frame = pandas.DataFrame(list(rows), columns=list(columns))
    atomic_write(path, lambda temporary: frame.to_csv(temporary, index=False), guard)


def read_record(path: Path) -> Record:
    """One record; an older one is upgraded.

    Raises:
        RecordError: the file is incomplete, has another schema version, or is not a record.
    """
    advice = "delete its folder and run it again"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: expected a record in JSON, found {error}; {advice}.") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(f"{path}: expected schema version {SCHEMA_VERSION}, found {version!r}; {advice}.")
    try:
        return Record.model_validate(upgraded_record(raw))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {place}: {first['msg']} (found {first['input']!r:.80}); {advice}.") from error


def read_records(results: Path) -> list[Record]:
    """All records below a results folder, sorted by data set, method, variant and seed.

    Raises:
        RecordError: any of them cannot be read.
    """
    records = [read_record(path) for path in sorted(results.glob(f"*/*/seed-*/{RECORD}"))]
    return sorted(records, key=lambda r: (r.order.data, r.data, r.order.method, r.variant, r.seed))
