"""Where records are stored: results/<data>/<variant>/seed-<s>/. Every write is atomic."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

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
    return results / data / variant / f"seed-{seed}"


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary path), then moves the file to `path`: a crash leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> Path:
    """Writes text atomically, as UTF-8 with Unix line ends; returns the path."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
    return path


def write_record(folder: Path, record: Record) -> None:
    """Writes record.json."""
    atomic_write_text(folder / RECORD, record.model_dump_json(indent=1) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Writes a table of numbers at full precision."""
    import pandas  # slow to import, and every process that trains would do it before its first step

    frame = pandas.DataFrame(list(rows), columns=list(columns))
    atomic_write(path, lambda temporary: frame.to_csv(temporary, index=False))


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
