"""Which runs may stand in the tables of one folder of results: the same code, the same protocol and the same data."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from bench.exchange.data_agreement import data_group, other_data, other_references, text_of
from bench.exchange.registered import misnamed, named_method
from bench.exchange.shared_runs import SharedRun
from bench.records.plain_text import named
from bench.records.record import Record
from bench.records.same_data import split_per_seed
from bench.reporting.comparison import SINGLE_TASK, chosen_tasks, unusual_protocol
from bench.reporting.differences import METHOD_VERSIONS, SHARED_VERSIONS, flat
from bench.spec.shown import shown

_OWNERS = {"arch": "architecture", "weighting": "weighting"}  # whose settings a section has

Names: TypeAlias = Mapping[Hashable, Mapping[str, str]]


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
    return [
        *misnamed(incoming),
        *_other_protocol(incoming, present),
        *other_data(incoming, present),
        *other_references(incoming, present),
    ]


def _other_protocol(incoming: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On other versions of the code, settings, tasks, rules or labels."""
    known: dict[Hashable, set[str]] = {}
    names = _names_of_settings([*present, *(run.record for run in incoming)])
    for record in present:
        for part in _shared(record, names):
            known.setdefault(part.group, set()).add(text_of(part.value))
    found: dict[Hashable, dict[str, list[str]]] = {}
    about: dict[Hashable, _Shared] = {}
    for run in incoming:
        for part in _shared(run.record, names):
            found.setdefault(part.group, {}).setdefault(text_of(part.value), []).append(run.name)
            about.setdefault(part.group, part)
    for group, runs in found.items():
        expected = known.get(group) or {max(runs, key=lambda value: len(runs[value]))}
        for value in runs.keys() - expected:
            part = about[group]
            yield (
                f"{part.what}: expected {' or '.join(map(_short, sorted(expected)))} as the other runs of {part.whose} "
                f"have, found {_short(value)} in {named(runs[value])}."
            )


def _names_of_settings(records: Iterable[Record]) -> Names:
    """The dotted settings that occur, by the group of runs that should have them: one that is absent is a value."""
    names: dict[Hashable, dict[str, str]] = {}
    for record in records:
        for dotted in flat(record.settings):
            owner = _OWNERS.get(dotted.partition(".")[0], "")
            names.setdefault(_settings_group(record, owner), {})[dotted] = ""
    return names


def _settings_group(record: Record, owner: str) -> Hashable:
    return record.data, owner, getattr(record, owner) if owner else ""


def _shared(record: Record, names: Names) -> Iterator[_Shared]:
    """What a run must share with others of its data set, its weighting, its architecture or its method."""
    data, versions, settings = record.data, record.versions, flat(record.settings)
    for part in SHARED_VERSIONS:
        yield _Shared((part, data), f"version of the {part}", data, versions.get(part))
    for part in METHOD_VERSIONS:
        key = getattr(record, part)
        yield _Shared((part, data, key), f"version of the {part} {key}", data, versions.get(part))
    for owner in ("", *_OWNERS.values()):
        group, key = _settings_group(record, owner), getattr(record, owner) if owner else ""
        for dotted in names.get(group, ()):
            if dotted not in record.overrides:
                whose = f"{data} with {key}" if key else data
                yield _Shared((dotted, group), dotted, whose, settings.get(dotted))
    yield from _shared_protocol(record)
    yield from _shared_names(record)


def _shared_protocol(record: Record) -> Iterator[_Shared]:
    """How a run was selected and scored."""
    data, tasks, protocol = record.data, chosen_tasks(record), unusual_protocol(record)
    yield _Shared(("tasks", data, tasks), "tasks and metrics", data, [task.model_dump() for task in record.tasks])
    yield _Shared(("kind", data, tasks), "kind and selection", data, (record.kind, record.selection))
    yield _Shared(("heads", data, record.variant), "head_rule", f"{data}/{record.variant}", record.head_rule)
    if record.selected is not None:
        group = (data, tasks, protocol, record.architecture == SINGLE_TASK)
        if record.validation:  # without, the rule says how many epochs are averaged, of how many there are
            yield _Shared(("rule", *group), "rule that selects the epoch", data, record.selected.rule)
        yield _Shared(("scores", *group), "scores on validation", data, "some" if record.validation else "none")
        yield _Shared(("epochs", *group), "an epoch for each task", data, bool(record.selected_by_task))
    seed = record.seed if split_per_seed(record.settings) else None
    for name in ("rule", "counts", "seed"):
        if name in record.splits:
            own = None if name == "rule" else seed
            what = f"{name} of the splits"
            yield _Shared(("splits", name, own, *data_group(record)), what, data, record.splits[name])


def _shared_names(record: Record) -> Iterator[_Shared]:
    """What a method is called, and is; a frozen twin is called after its source."""
    method = named_method(record)
    yield _Shared(("parts", record.method), "architecture and weighting", record.method, _parts(record))
    yield _Shared(("label", method), "labels.method", method, record.labels.method)
    yield _Shared(("method", record.labels.method), "method", f"the label {record.labels.method}", method)
    yield _Shared(("label of data", record.data), "labels.data", record.data, record.labels.data)


def _parts(record: Record) -> list[str]:
    return [record.architecture, record.weighting]


def _short(text: str) -> str:
    return "none" if text == "null" else shown(json.loads(text))
