"""Runs that are trained again although they have a record: in a folder beside it, until they have ended.

The old record and its files stay as they are meanwhile. Then the new files replace the old ones, the record last: a
process that is killed in between leaves a whole new record, and the next command moves the rest.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

from bench.records.files import Guard, storage_error
from bench.records.items import ITEMS
from bench.records.record import Record
from bench.records.store import CHECKPOINT, COSINES, ERROR_LOG, RECORD, TENSORBOARD, RecordError, read_record, read_run

AGAIN = "again"  # the folder, in that of the run


def training_folder(folder: Path) -> Path:
    """Where a run is being trained: in its folder, or beside the record that is there."""
    again = folder / AGAIN
    return again if (folder / RECORD).exists() and again.is_dir() else folder


def has_ended_again(folder: Path) -> bool:
    """Whether a run has been trained again to its end, and its files are still to replace the old ones."""
    return _new_record(folder) is not None


def read_whole_run(folder: Path) -> Record | None:
    """As `read_run`, for those who use the files beside the record too.

    Raises:
        RecordError: as of `read_run`, or some of the files may already be those of a new record.
    """
    record = read_run(folder)
    if (folder / AGAIN / RECORD).is_file() and has_ended_again(folder):
        raise RecordError(
            f"{folder}: expected the files of one run, found some in {AGAIN} that are to replace the others; "
            "the `bench.run` command that trained it again moves them."
        )
    return record


def replace_old(folder: Path, guard: Guard = nullcontext) -> None:
    """Moves the files of a run that has been trained again to the place of the old ones; does nothing if it hasn't.

    guard: as in `bench.records.files.atomic_write`.

    Raises:
        StorageError: a file can't be moved.
    """
    record = _new_record(folder)
    if record is None:
        return
    again = folder / AGAIN
    try:
        with guard():
            for name in _outdated(again, record):
                _remove(folder / name)
            for path in sorted(again.iterdir()):
                if path.name not in (RECORD, CHECKPOINT) and not path.name.startswith("."):
                    if path.is_dir():
                        _remove(folder / path.name)
                    os.replace(path, folder / path.name)
            os.replace(again / RECORD, folder / RECORD)
            shutil.rmtree(again)
    except OSError as error:
        raise storage_error(folder, error) from error


def _new_record(folder: Path) -> Record | None:
    path = folder / AGAIN / RECORD
    try:
        record = read_record(path) if path.is_file() else None
    except (RecordError, OSError):
        return None
    return record if record is not None and record.status != "failed" else None


def _outdated(again: Path, record: Record) -> list[str]:
    """Old files that no new one replaces."""
    replaced = {
        ERROR_LOG: False,
        ITEMS: bool(record.items),
        COSINES: bool(record.settings.get("train", {}).get("cosines_every")),
        TENSORBOARD: (again / TENSORBOARD).exists(),
    }
    return [name for name, stays in replaced.items() if not stays]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
