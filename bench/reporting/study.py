"""Records arranged as a comparison: per data set, one row per variant and one run per seed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.records.record import Record, Scores, TaskRecord
from bench.records.store import RecordError

BASELINE = "ew"
# Sections of `settings` that belong to a method; the others are meant to be the same for every row of a table.
METHOD_SECTIONS = ("arch", "weighting")


@dataclass(frozen=True)
class Variant:
    """One row: a method with its settings. `notes` say what keeps it from being like the other rows."""

    key: str
    method: str
    label: str
    colour: int  # place of the method in its registry, or of the row in its table
    runs: Mapping[int, Record]  # by seed, whatever their status
    scored: Mapping[int, Record]  # the finished ones, empty where they must not be averaged
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlannedRow:
    """A row that a study asks for: its label, and the runs that it stands for, each as method and overrides.

    Of several, the one that is best on validation is shown.
    """

    label: str
    candidates: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class PlannedTable:
    """A table that a study asks for of one data set. name: its folder."""

    name: str
    title: str
    rows: tuple[PlannedRow, ...]


@dataclass(frozen=True)
class Study:
    """A comparison on one data set: all that is known of it, or one `part` of a study with tables of its own.

    common: settings that differ from the defaults in every row alike.
    """

    data: str
    label: str
    selection: str
    tasks: tuple[TaskRecord, ...]
    seeds: tuple[int, ...]
    common: Mapping[str, Any]
    variants: tuple[Variant, ...]
    baseline: Variant | None
    part: str = ""

    @property
    def folder(self) -> str:
        """Where its tables and figures go, below the reports."""
        return f"{self.data}/{self.part}" if self.part else self.data

    @property
    def complete(self) -> tuple[Variant, ...]:
        """The rows in which every seed has finished."""
        return tuple(v for v in self.variants if set(v.scored) == set(self.seeds))

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that picked the reported epochs, as recorded."""
        rules = [
            r.selected.rule.rstrip(".") for v in self.variants for r in v.scored.values() if r.selected is not None
        ]
        return tuple(dict.fromkeys(rules))

    @property
    def reference(self) -> Scores:
        """Test scores of the best answer that ignores the image; empty where no run recorded them."""
        return next((r.reference for v in self.variants for r in v.runs.values() if r.reference), {})


def studies(records: Sequence[Record]) -> tuple[Study, ...]:
    """One study per data set, in the order of the records.

    Raises:
        RecordError: records of one data set disagree about its tasks, or two stand for the same run.
    """
    return tuple(_study([r for r in records if r.data == data]) for data in dict.fromkeys(r.data for r in records))


def _study(records: Sequence[Record]) -> Study:
    first = records[0]
    for record in records:
        if (record.tasks, record.selection) != (first.tasks, first.selection):
            raise RecordError(
                f"{_place(record)}: expected the tasks and metrics of {_place(first)}, found others; "
                "delete the older of the two and run it again."
            )
    seeds = tuple(sorted({record.seed for record in records}))
    grouped = {
        key: _by_seed([r for r in records if r.variant == key]) for key in dict.fromkeys(r.variant for r in records)
    }
    common = _common([record.overrides for record in records])
    labels = _labels(grouped, common)
    odd = _odd_settings(grouped)
    variants = tuple(_variant(key, labels[key], runs, seeds, odd[key]) for key, runs in grouped.items())
    baseline = next((v for v in variants if v.method == BASELINE and not _own(_first(v.runs), common)), None)
    return Study(first.data, first.labels.data, first.selection, tuple(first.tasks), seeds, common, variants, baseline)


def arranged(study: Study, tables: Sequence[PlannedTable]) -> tuple[Study, ...]:
    """A study cut into the tables that were asked for, rows in their order; those without any run are left out."""
    parts = []
    for table in tables:
        rows = [_planned(study, row, place) for place, row in enumerate(table.rows)]
        variants = tuple(row for row in rows if row is not None)
        if variants:
            label = f"{study.label}: {table.title}"
            parts.append(replace(study, label=label, variants=variants, part=table.name))
    return tuple(parts)


def _planned(study: Study, row: PlannedRow, place: int) -> Variant | None:
    """The row as it is shown: its only candidate, or the one with the highest mean validation score."""
    wanted = [(method, _without(overrides, study.common)) for method, overrides in row.candidates]
    found = [v for v in study.variants if (v.method, _own(_first(v.runs), study.common)) in wanted]
    if not found:
        return None
    shown, notes = found[0], list[str]()
    if len(wanted) > 1:
        complete = [variant for variant in found if variant in study.complete]
        if complete:
            shown = max(complete, key=_validation_score)
        settings = show_settings(_own(_first(shown.runs), study.common))
        notes.append(f"of {len(wanted)}, {len(complete)} of them finished, the best on validation: {settings}")
    return replace(shown, label=row.label, colour=place, notes=(*notes, *shown.notes))


def _validation_score(variant: Variant) -> float:
    """The mean over seeds of the score that picked the epoch."""
    scores = [run.selected.score for run in variant.scored.values() if run.selected is not None]
    return math.fsum(scores) / len(scores)


def _without(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in common}


def _variant(key: str, label: str, runs: Mapping[int, Record], seeds: Sequence[int], odd: Sequence[str]) -> Variant:
    done = {seed: run for seed, run in runs.items() if run.status == "done"}
    notes = [text for text in (_unfinished(runs, seeds),) if text]
    mixed = _differences([_flat(run.settings) for run in done.values()])
    if mixed:
        notes.append(f"seeds ran with different settings and are not averaged: {'; '.join(mixed)}")
    first = _first(runs)
    return Variant(key, first.method, label, first.order.method, runs, {} if mixed else done, (*notes, *odd))


def _by_seed(records: Sequence[Record]) -> dict[int, Record]:
    runs: dict[int, Record] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.seed in runs:
            raise RecordError(f"{_place(record)}: expected one record, found two; delete the copy.")
        runs[record.seed] = record
    return runs


def _unfinished(runs: Mapping[int, Record], seeds: Sequence[int]) -> str:
    """What became of the seeds that other rows have and this row lacks; seeds with the same fate together."""
    fates: dict[str, list[int]] = {}
    for seed in seeds:
        run = runs.get(seed)
        if run is None:
            fates.setdefault("not run", []).append(seed)
        elif run.status != "done":
            reason = " ".join(run.reason.split()).rstrip(".")
            fates.setdefault(run.status + (f" ({reason})" if reason else ""), []).append(seed)
    return "; ".join(f"{seed_list(lost)} {fate}" for fate, lost in fates.items())


def _labels(grouped: Mapping[str, Mapping[int, Record]], common: Mapping[str, Any]) -> dict[str, str]:
    """A name for each row: the published one, and the settings that are this row's own."""
    labels = {}
    for key, runs in grouped.items():
        first = _first(runs)
        own = show_settings(_own(first, common))
        labels[key] = first.labels.method + (f" ({own})" if own else "")
    counts = Counter(labels.values())
    return {key: label if counts[label] == 1 else f"{label} ({key})" for key, label in labels.items()}


def show_settings(settings: Mapping[str, Any]) -> str:
    """`key=value` for each setting, in order of their names."""
    return ", ".join(f"{key}={_text(value)}" for key, value in sorted(settings.items()))


def _common(overrides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in overrides[0].items() if all(key in o and o[key] == value for o in overrides)}


def _own(record: Record, common: Mapping[str, Any]) -> dict[str, Any]:
    return _without(record.overrides, common)


def _odd_settings(grouped: Mapping[str, Mapping[int, Record]]) -> dict[str, tuple[str, ...]]:
    """Per row, shared settings and splits that are not those of most rows, unless its label says so already."""
    shared = {key: _shared(runs) for key, runs in grouped.items()}
    odd: dict[str, list[str]] = {key: [] for key in grouped}
    for name in dict.fromkeys(name for settings in shared.values() for name in settings):
        values = {key: _text(settings[name]) for key, settings in shared.items() if name in settings}
        usual = Counter(values.values()).most_common(1)[0][0]
        for key, value in values.items():
            if value == usual or name in _first(grouped[key]).overrides:
                continue
            if name == "splits":
                odd[key].append("not the split of the data that the other rows have")
            else:
                odd[key].append(f"{name}={value}, other rows have {usual}")
    return {key: tuple(texts) for key, texts in odd.items()}


def _shared(runs: Mapping[int, Record]) -> dict[str, Any]:
    """Settings and splits meant to be the same for every row; a run that failed early may not know its splits."""
    run = next((run for run in runs.values() if run.status == "done"), _first(runs))
    sections = {name: part for name, part in run.settings.items() if name not in METHOD_SECTIONS}
    return {**_flat(sections), **({"splits": run.splits} if run.splits else {})}


def _differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """`key: value, value` for every setting that is not the same in all."""
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: dict.fromkeys(_text(one.get(name)) for one in settings) for name in names}
    return [f"{name}: {', '.join(found)}" for name, found in values.items() if len(found) > 1]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _first(runs: Mapping[int, Record]) -> Record:
    return next(iter(runs.values()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _place(record: Record) -> str:
    return f"{record.data}/{record.variant}/seed-{record.seed}"


def seed_list(seeds: Iterable[int]) -> str:
    """ "seed 2" or "seeds 0, 1"."""
    texts = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' * (len(texts) != 1)} {', '.join(texts)}"
