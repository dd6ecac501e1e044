"""Where records are stored: results/<data>/<variant>/seed-<s>/. Every write is atomic."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from bench.records.files import Guard, atomic_write, atomic_write_text, storage_error
from bench.records.names import inside
from bench.records.reading import Absent, Damaged, in_one_line, read_json
from bench.records.record import SCHEMA_VERSION, Record, Status
from bench.records.upgrade import upgraded_record

RECORD = "record.json"
CURVE = "curve.csv"
POSITIONS = "positions.csv"
COSINES = "cosines.csv"
CHECKPOINT = "checkpoint.pt"
ERROR_LOG = "error.txt"
TENSORBOARD = "tensorboard"  # a folder

_WORTH: Mapping[Status, int] = {"failed": 0, "diverged": 1, "done": 2}
SEED_PREFIX = "seed-"
_ADVICE = "`bench.run` moves it aside and trains this run again."
_NO_RUN = "no run has a folder of this name: move it out of the results."


class RecordError(Exception):
    """Records that cannot be read. The message has a line for each: the file, the error and what to do."""


class BadRecord(RecordError):
    """The record of a run that is damaged or contradicts itself, so that the run has to be trained again."""


def run_folder(results: Path, data: str, variant: str, seed: int) -> Path:
    """The folder of one run."""
    return inside(results, data, variant, f"{SEED_PREFIX}{seed}")


def run_name(data: str, variant: str, seed: int | str) -> str:
    """The run in a message: its folder below the results."""
    return f"{data}/{variant}/{SEED_PREFIX}{seed}"


def names_a_run(folder: Path) -> bool:
    """Whether a folder has the name of a run, data/variant/seed-<s>, as `run_folder` writes it."""
    try:
        data, variant, seed = folder.parts[-3:]
        return run_folder(Path(), data, variant, int(seed.removeprefix(SEED_PREFIX))).parts == (data, variant, seed)
    except ValueError:
        return False


def _advice(path: Path) -> str:
    """What to do about a bad record: no run is trained in a folder that none can have, such as seed-00."""
    return _NO_RUN if path.parent.name.startswith(SEED_PREFIX) and not names_a_run(path.parent) else _ADVICE


class _Better(Exception):
    """The record that is there says more."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


def write_record(folder: Path, record: Record, guard: Guard = nullcontext) -> Record:
    """Writes record.json, and returns the record that is there afterwards. guard: as in `atomic_write`.

    A record is not replaced by one of the same settings that says less: a finished run by one that failed.
    """

    settings = upgraded_record(record.model_dump(mode="json"))["settings"]

    @contextmanager
    def better() -> Iterator[None]:
        with guard():
            earlier = _read_if_valid(folder / RECORD)
            if earlier and earlier.settings == settings and _WORTH[earlier.status] > _WORTH[record.status]:
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
        BadRecord: it isn't a record, or contradicts itself.
        RecordError: it has another schema version, or can't be read.
    """
    try:
        raw = read_json(path)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise RecordError(
                f"{path}: expected schema version {SCHEMA_VERSION}, found {version}; read it with the version of this "
                "project that wrote it, or move its folder away and run it again."
            )
        if version is None:
            raise Damaged("expected a record, found JSON without a schema version")
        return Record.model_validate(upgraded_record(raw))
    except Damaged as error:
        raise BadRecord(f"{path}: {error}; {_advice(path)}") from error
    except ValidationError as error:
        raise BadRecord(f"{path}: {in_one_line(error)}; {_advice(path)}") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error


def read_run(folder: Path) -> Record | None:
    """The record in the folder of a run; None if there is none.

    Raises:
        BadRecord: as of `read_record`, or it is of another run than its folder.
        RecordError: as of `read_record`.
    """
    path = folder / RECORD
    try:
        record = read_record(path)
    except BadRecord as error:
        if isinstance(error.__cause__, Absent):
            return None
        raise
    found = (record.data, record.variant, f"{SEED_PREFIX}{record.seed}")
    if folder.parts[-3:] != found:
        if folder.resolve().parts[-3:] == found:  # nothing of that run may be moved or written by this name
            raise RecordError(f"{folder}: expected a folder, found a link to that of another run; remove the link.")
        raise BadRecord(f"{path}: expected the run that its folder names, found {'/'.join(found)}; {_advice(path)}")
    return record


@contextmanager
def without_collector() -> Iterator[None]:
    """Within, Python doesn't look for cycles of objects: among those of 10,000 records that takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def run_folders(results: Path, errors: list[str]) -> list[Path]:
    """The folders of all runs below a results folder, with a record or not; none if there is no such folder.

    Folders that can't be read are added to `errors`.
    """
    if not os.path.lexists(results):
        return []
    variants = [folder for data in _folders(results, errors) for folder in _folders(data, errors)]
    return [folder for variant in variants for folder in _folders(variant, errors, SEED_PREFIX)]


def _folders(parent: Path, errors: list[str], prefix: str = "") -> list[Path]:
    """The folders in a folder whose names begin with a prefix; other files are no errors if the prefix is empty."""
    try:
        entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
    except OSError as error:
        errors.append(str(storage_error(parent, error)))
        return []
    folders = []
    for entry in (entry for entry in entries if entry.name.startswith(prefix)):
        path = Path(entry)
        try:
            if entry.is_dir():
                folders.append(path)
            elif prefix:
                errors.append(f"{path}: expected the folder of a run, found a file; move it away.")
        except OSError as error:  # a link that leads to itself
            errors.append(str(storage_error(path, error)))
    return folders


def set_aside(folder: Path) -> Path | None:
    """Renames a bad record in the folder of a run, so that the run can be trained; returns its new path.

    It is read again first: None if it is gone or another process has replaced it by a valid one.

    Raises:
        RecordError: it can't be read. StorageError: it can't be renamed.
    """
    path = folder / RECORD
    with suppress(BadRecord):
        read_run(folder)
        return None
    names = (path.with_name(f"{RECORD}.bad{number or ''}") for number in count())
    new = next(name for name in names if not os.path.lexists(name))
    try:
        path.rename(new)
    except OSError as error:
        raise storage_error(path, error) from error
    return new
