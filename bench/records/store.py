"""Where records are stored: results/<data>/<variant>/seed-<s>/. Every write is atomic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pydantic import ValidationError

from bench.records.files import Guard, atomic_write, atomic_write_text
from bench.records.names import inside
from bench.records.record import SCHEMA_VERSION, Record
from bench.records.upgrade import upgraded_record

RECORD = "record.json"
CURVE = "curve.csv"
POSITIONS = "positions.csv"
COSINES = "cosines.csv"
CHECKPOINT = "checkpoint.pt"


class RecordError(Exception):
    """A record that cannot be read; the message names the file, the error and what to do."""


def run_folder(results: Path, data: str, variant: str, seed: int) -> Path:
    """The folder of one run."""
    return inside(results, data, variant, f"seed-{seed}")


def write_record(folder: Path, record: Record, guard: Guard = nullcontext) -> None:
    """Writes record.json. guard: as in `atomic_write`."""
    atomic_write_text(folder / RECORD, record.model_dump_json(indent=1) + "\n", guard)


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
