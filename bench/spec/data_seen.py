"""The data that runs would see now, and whether it is what kept runs saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records.files import matching
from bench.records.record import Record
from bench.records.same_data import compared_parts, data_settings, same_fingerprint
from bench.records.store import RECORD, SEED_PREFIX, RecordError, read_run
from bench.spec.resolve import RunSpec
from datasets import DATASETS
from datasets.contract import DataError, DataSettings, NotPrepared
from datasets.fingerprint import PARTS, fingerprint
from datasets.separate_parts import refuse_empty_parts, refuse_test_as_validation
from datasets.split_lists import unlisted_remarks

# Runs with an equal key read the same images and targets.
DataKey = tuple[str, DataSettings]


@dataclass(frozen=True)
class SeenData:
    """What a reader found.

    fingerprint: of each part, and of the whole.
    digest: of which file is in which part, by name; older records have nothing else.
    unlisted: by domain, how many images no list names.
    training: images of the largest training source, which sets the length of an epoch; 0 if that isn't known.
    """

    fingerprint: Mapping[str, str]
    digest: str
    unlisted: Mapping[str, int]
    training: int = 0


@dataclass(frozen=True)
class CurrentData:
    """The data of all runs of a request.

    seen: what is known.
    unprepared: why the rest isn't known, in words: it is not decoded, and may not be.
    """

    seen: Mapping[DataKey, SeenData]
    unprepared: Mapping[DataKey, str]

    def of(self, spec: RunSpec) -> SeenData | None:
        return self.seen.get(data_key(spec))


def data_key(spec: RunSpec) -> DataKey:
    return spec.data, spec.data_settings


def look_at_data(specs: Sequence[RunSpec], folders: Mapping[str, Path], errors: list[str]) -> CurrentData:
    """What runs would see of each data set with a folder. It is decoded first, if that is allowed.

    Errors in the data are added to `errors`.
    """
    seen: dict[DataKey, SeenData] = {}
    unprepared: dict[DataKey, str] = {}
    for key, spec in {data_key(spec): spec for spec in specs if spec.data in folders}.items():
        try:
            splits = spec.info.read(folders[spec.data], spec.data_settings)
            refuse_empty_parts(splits, spec.settings.data, folders[spec.data])
            marks = fingerprint(splits)
            refuse_test_as_validation(splits, marks, folders[spec.data])
        except NotPrepared as error:
            unprepared[key] = str(error)
        except DataError as error:
            errors.append(str(error))
        else:
            found: Mapping[str, Any] = splits.provenance
            training = max(map(len, splits.train))
            seen[key] = SeenData(marks, found.get("digest", ""), found.get("unlisted", {}), training)
    return CurrentData(seen, unprepared)


def changed_parts(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The parts whose fingerprints differ."""
    return [part for part in PARTS if before.get(part) != now.get(part)]


def data_difference(record: Record, now: SeenData) -> str:
    """How the data of a record differs from today's, in words; empty if it doesn't, as far as the record says."""
    if record.fingerprint:
        parts = changed_parts(record.fingerprint, now.fingerprint)
        return f"other images or labels in {', '.join(parts)}" if parts else ""
    digest = record.splits.get("digest")
    return "another split of the files" if digest not in (None, now.digest) else ""


def data_remarks(current: CurrentData, kept: Sequence[tuple[RunSpec, Record]]) -> list[str]:
    """What the user should know: images that lists leave out, pooled test sets, and kept runs not compared."""
    remarks = [
        f"{name}: {remark}" for (name, _), seen in current.seen.items() for remark in unlisted_remarks(seen.unlisted)
    ]
    pooled = dict.fromkeys(name for name, settings in (*current.seen, *current.unprepared) if settings.split_per_seed)
    remarks += [
        f"{name}: data.split_per_seed=true draws the parts from all images: {DATASETS[name].if_pooled}."
        for name in pooled
        if DATASETS[name].if_pooled
    ]
    unknown = Counter(data_key(spec) for spec, _ in kept if data_key(spec) in current.unprepared)
    remarks += [compared_later(current, key, f"{_runs(count)} of {key[0]}") for key, count in unknown.items()]
    unmarked = Counter(spec.data for spec, record in kept if data_key(spec) in current.seen and not record.fingerprint)
    remarks += [
        f"{name}: {_runs(count)} {'was' if count == 1 else 'were'} made before fingerprints of the data were stored; "
        "only which files are in which part was compared."
        for name, count in unmarked.items()
    ]
    return remarks


def compared_later(current: CurrentData, key: DataKey, who: str) -> str:
    """That data is not decoded yet, so what `who` saw can't be compared with it now."""
    return f"{current.unprepared[key]}; `python -m bench.run` decodes that and then compares it with what {who} saw."


def neighbour_remarks(
    current: CurrentData, pending: Sequence[RunSpec], results: Path, known: Mapping[Path, Record] | None = None
) -> list[str]:
    """One line per data set for which other runs in the results, with the same data settings, saw other data.

    New runs beside them could not be compared with them; a user should know before they train.
    known: records that were read already, by the folders of their runs.
    """
    records = {name: _records_in(results / name, known or {}) for name in dict.fromkeys(spec.data for spec in pending)}
    remarks = []
    for spec in {data_key(spec): spec for spec in pending}.values():
        seen = current.of(spec)
        others = [path for path, record in records[spec.data] if seen and _saw_other_data(record, spec, seen)]
        if others:
            remarks.append(
                f"{spec.data}: {len(others)} finished run{'s' * (len(others) != 1)} in {results / spec.data} saw other "
                f"data than what is here now, the first is {others[0].parent}; tables will mark rows of both."
            )
    return list(dict.fromkeys(remarks))


def _records_in(folder: Path, known: Mapping[Path, Record]) -> list[tuple[Path, Record]]:
    """The records of a data set; invalid ones are left to reports, which say so."""
    found = []
    for run in matching(folder, "*", f"{SEED_PREFIX}*"):
        with suppress(RecordError):
            record = known.get(run) or read_run(run)
            found += [(run / RECORD, record)] if record is not None else []
    return found


def _saw_other_data(record: Record, spec: RunSpec, seen: SeenData) -> bool:
    """Whether another run that should have seen the same data as this one saw other data."""
    settings = spec.settings.as_dict()
    if not record.fingerprint or data_settings(record.settings) != data_settings(settings):
        return False
    parts = compared_parts(settings, record.seed == spec.seed)
    return not same_fingerprint(record.fingerprint, seen.fingerprint, parts)


def _runs(count: int) -> str:
    return f"{count} kept run{'s' * (count != 1)}"
