"""Which runs may stand in the tables of one folder of results: the same code, the same protocol and the same data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench.exchange.shared_runs import SharedRun
from bench.records.plain_text import named
from bench.records.record import Record
from bench.records.same_data import WHOLE, data_settings, same_data, split_per_seed
from bench.records.store import run_name
from bench.reporting.comparison import SINGLE_TASK, chosen_tasks, unusual_protocol
from bench.reporting.differences import METHOD_VERSIONS, SHARED_VERSIONS, flat
from bench.spec.data_seen import changed_parts
from bench.spec.shown import shown

_OWNERS = {"arch": "architecture", "weighting": "weighting"}  # whose settings a section has


class _Shared(NamedTuple):
    """Something that runs must share. group: of the runs that must. what, whose: for messages. value: of one run."""

    group: Hashable
    what: str
    whose: str
    value: Any


def disagreements(incoming: Sequence[SharedRun], present: Sequence[Record]) -> list[str]:
    """Sentences on incoming runs that can't be compared with those that are present, or with each other.

    Where nothing is present, what most incoming runs have counts. Runs that are present and disagree among themselves
    are left to reports, which mark them; an incoming run must then be like one of them.
    """
    return [*_other_protocol(incoming, present), *_other_data(incoming, present)]


def _other_protocol(incoming: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On other versions of the code, settings, tasks or rules."""
    known: dict[Hashable, set[str]] = {}
    for record in present:
        for part in _shared(record):
            known.setdefault(part.group, set()).add(_text(part.value))
    found: dict[Hashable, dict[str, list[str]]] = {}
    about: dict[Hashable, _Shared] = {}
    for run in incoming:
        for part in _shared(run.record):
            found.setdefault(part.group, {}).setdefault(_text(part.value), []).append(run.name)
            about.setdefault(part.group, part)
    for group, names in found.items():
        expected = known.get(group) or {max(names, key=lambda value: len(names[value]))}
        for value in names.keys() - expected:
            part = about[group]
            yield (
                f"{part.what}: expected {' or '.join(map(_short, sorted(expected)))} as the other runs of {part.whose} "
                f"have, found {_short(value)} in {named(names[value])}."
            )


def _shared(record: Record) -> Iterator[_Shared]:
    """What a run must share with others of its data set, its weighting or its architecture."""
    data, versions = record.data, record.versions
    for part in SHARED_VERSIONS:
        yield _Shared((part, data), f"version of the {part}", data, versions.get(part))
    for part in METHOD_VERSIONS:
        key = getattr(record, part)
        yield _Shared((part, data, key), f"version of the {part} {key}", data, versions.get(part))
    for dotted, value in flat(record.settings).items():
        if dotted not in record.overrides:
            section = dotted.partition(".")[0]
            key = getattr(record, _OWNERS[section]) if section in _OWNERS else ""
            yield _Shared((dotted, data, key), dotted, f"{data} with {key}" if key else data, value)
    tasks, protocol = chosen_tasks(record), unusual_protocol(record)
    yield _Shared(("tasks", data, tasks), "tasks and metrics", data, [task.model_dump() for task in record.tasks])
    yield _Shared(("kind", data, tasks), "kind and selection", data, (record.kind, record.selection))
    yield _Shared(("heads", data, record.variant), "head_rule", f"{data}/{record.variant}", record.head_rule)
    if record.selected is not None:
        group = ("rule", data, tasks, protocol, record.method == SINGLE_TASK)
        yield _Shared(group, "rule that selects the epoch", data, record.selected.rule)
    if "rule" in record.splits:
        yield _Shared(("splits", *_data_group(record)), "rule of the splits", data, record.splits["rule"])


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    return "none" if text == "null" else shown(json.loads(text))


def _data_group(record: Record) -> tuple[str, str]:
    """Runs of one group should have seen the same data."""
    return record.data, _text(data_settings(record.settings))


def _mark(record: Record) -> str:
    """Records with an equal mark saw the same data."""
    seed = record.seed if split_per_seed(record.settings) else None
    return _text([record.fingerprint, record.splits.get("digest"), seed])


def _other_data(incoming: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On runs that saw other images or labels than the other runs with the same data settings."""
    groups: dict[tuple[str, str], list[SharedRun]] = {}
    for run in incoming:
        groups.setdefault(_data_group(run.record), []).append(run)
    known: dict[tuple[str, str], dict[str, Record]] = {}
    for record in present:
        known.setdefault(_data_group(record), {}).setdefault(_mark(record), record)
    for group, runs in groups.items():
        references = known.get(group) or _usual(runs)
        refused: dict[str, list[str]] = {}
        for run in runs:
            if _mark(run.record) not in references:
                other = next((one for one in references.values() if not same_data(run.record, one)), None)
                if other is not None:
                    refused.setdefault(_difference(run.record, other), []).append(run.name)
        for difference, names in refused.items():
            yield f"{group[0]}: expected the data that its other runs saw, found {difference} in {named(names)}."


def unmarked_data(records: Sequence[Record]) -> Iterator[str]:
    """Remarks on runs without a fingerprint of their data, beside runs of the data set that have one."""
    marked = {record.data for record in records if record.fingerprint}
    for data in sorted(marked):
        bare = [run_name(*r.key) for r in records if r.data == data and not r.fingerprint]
        if bare:
            yield f"{data}: no fingerprint says which images {named(bare)} saw; other runs have one."


def _usual(runs: Iterable[SharedRun]) -> Mapping[str, Record]:
    """What most of these runs saw, and all that is the same data."""
    runs = list(runs)
    counts = Counter(_mark(run.record) for run in runs)
    firsts = {_mark(run.record): run.record for run in reversed(runs)}
    most = max(counts, key=lambda mark: (_agreeing(firsts[mark], firsts, counts), bool(firsts[mark].fingerprint)))
    usual = firsts[most]
    return {mark: record for mark, record in firsts.items() if same_data(record, usual)}


def _agreeing(record: Record, firsts: Mapping[str, Record], counts: Mapping[str, int]) -> int:
    return sum(counts[mark] for mark, other in firsts.items() if same_data(record, other))


def _difference(record: Record, other: Record) -> str:
    """How the data of two runs differs."""
    if not (record.fingerprint and other.fingerprint):
        return "another split of the files"
    parts = changed_parts(other.fingerprint, record.fingerprint)
    whole = record.fingerprint.get(WHOLE) != other.fingerprint.get(WHOLE)
    where = ", ".join(parts) or "the whole"
    return f"other images or labels in {where}" if whole else f"another partition of the same images ({where})"
