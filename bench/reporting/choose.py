"""Which records a report is made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.records.record import Record
from bench.records.store import RecordError, read_records
from bench.spec.lookup import lookup


def chosen_records(results: Path, names: Sequence[str]) -> list[Record]:
    """The records below `results`, only of the named data sets if any are named.

    Raises:
        RecordError: there are none, or one can't be read. UnknownName: a name fits none of them.
    """
    records = read_records(results)
    if not records:
        example = "python -m bench.run --method all --data digits"
        raise RecordError(f"{results}: expected records of runs, found none; run `{example}` first.")
    known = dict.fromkeys(record.data for record in records)
    chosen = {lookup(known, "data set among the records", name) for name in names}
    return [record for record in records if record.data in chosen or not names]
