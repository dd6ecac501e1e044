"""All records of a folder of results, for what is said of them together."""

from __future__ import annotations

from pathlib import Path

from bench.records.again import read_whole_run
from bench.records.record import Record
from bench.records.store import RecordError, run_folders, without_collector


def read_records(results: Path) -> list[Record]:
    """All records below a results folder, sorted by data set, method, variant and seed.

    Raises:
        RecordError: some can't be read, or a folder can't; the message has a line for each.
    """
    errors: list[str] = []
    records = []
    with without_collector():
        for folder in run_folders(results, errors):
            try:
                record = read_whole_run(folder)
            except RecordError as error:
                errors.append(str(error))
            else:
                records += [record] if record is not None else []
    if errors:
        raise RecordError("\n".join(errors))
    return sorted(records, key=lambda r: (r.order.data, r.data, r.order.method, r.variant, r.seed))
