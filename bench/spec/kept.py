"""Whether a record is of the run that is asked for, so that the run is kept, not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from bench.records.record import Record
from bench.records.store import RECORD, read_run, run_folder
from bench.spec.data_seen import SeenData, data_difference
from bench.spec.request import PlanError
from bench.spec.resolve import RunSpec, weighting_info

Sections: TypeAlias = dict[str, dict[str, Any]]


def kept_record(spec: RunSpec, results: Path, seen: SeenData | None) -> Record | None:
    """The record of this run in the results; None if the run is still to be trained.

    seen: the data that is here now, if it is known.

    Raises:
        PlanError: the record was made with other settings or from other data.
        BadRecord: it is damaged; the run is still to be trained. RecordError: it can't be read.
    """
    folder = run_folder(results, spec.data, spec.variant, spec.seed)
    record = read_run(folder)
    return record if record is not None and is_kept(spec, record, folder / RECORD, seen) else None


def is_kept(spec: RunSpec, record: Record, path: Path, seen: SeenData | None) -> bool:
    """Whether the record at `path` is of this run. A failed run is not kept but trained again.

    A record of an older version of the weighting or the problem is kept even if the defaults of its settings were
    others then.

    Raises:
        PlanError: the record was made with other settings or from other data.
    """
    if record.status == "failed":
        return False
    then, now = compared_settings(spec, record)
    if then != now:
        raise PlanError(
            f"{path}: made with other settings than today's defaults of {spec.variant}; move it away, or keep both "
            "with another --results."
        )
    difference = data_difference(record, seen) if seen else ""
    if difference:
        raise PlanError(
            f"{path}: expected the data that is here now, found a run on {difference}; restore the data, move the "
            "run's folder away to train it again, or use another --results."
        )
    return True


def compared_settings(spec: RunSpec, record: Record) -> tuple[Sections, Sections]:
    """The settings of a record, and those that the run would have now, without what other versions may have changed."""
    then, now = dict(record.settings), spec.settings.as_dict()
    if record.overrides == spec.overrides:
        for part in _of_older_versions(spec, record):
            then.pop(part, None)
            now.pop(part, None)
    return then, now


def _of_older_versions(spec: RunSpec, record: Record) -> list[str]:
    """The sections of settings whose defaults may have been others when the record was made."""
    weighting = record.versions.get("weighting", 1) < weighting_info(spec.weighting).version
    problem = record.versions.get("problem", 1) < spec.info.version
    return [*(["weighting"] if weighting else []), *(["train", "data", "backbone", "heads"] if problem else [])]
