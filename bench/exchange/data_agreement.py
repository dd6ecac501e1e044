"""Whether runs saw the same data: their fingerprints, their partitions, and the scores of the dummy baseline."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.exchange.shared_runs import SharedRun
from bench.records.plain_text import named
from bench.records.record import Record, Scores
from bench.records.same_data import WHOLE, data_settings, same_data, split_per_seed
from bench.records.store import run_name
from bench.spec.data_seen import changed_parts

_CLOSE = 1e-5  # beyond what another processor or version of numpy changes in the scores of a baseline


def text_of(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True)


def data_group(record: Record) -> tuple[str, str]:
    """Runs of one group should have seen the same data."""
    return record.data, text_of(data_settings(record.settings))


def _mark(record: Record) -> str:
    """Records with an equal mark saw the same data."""
    seed = record.seed if split_per_seed(record.settings) else None
    return text_of([record.fingerprint, record.splits.get("digest"), seed])


def other_data(incoming: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On runs that saw other images or labels than the other runs with the same data settings."""
    groups: dict[tuple[str, str], list[SharedRun]] = {}
    for run in incoming:
        groups.setdefault(data_group(run.record), []).append(run)
    known: dict[tuple[str, str], dict[str, Record]] = {}
    for record in present:
        known.setdefault(data_group(record), {}).setdefault(_mark(record), record)
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
    """Remarks on runs without a fingerprint of their data, or without outcomes per item, beside runs that have them."""
    marked = {record.data for record in records if record.fingerprint}
    for data in sorted(marked):
        bare = [run_name(*r.key) for r in records if r.data == data and not r.fingerprint]
        if bare:
            yield f"{data}: no fingerprint says which images {named(bare)} saw; other runs have one."
    for data in sorted({record.data for record in records if record.items}):
        bare = [run_name(*r.key) for r in records if r.data == data and _lacks_items(r)]
        if bare:
            yield f"{data}: no outcomes per test item of {named(bare)}; other runs have them."


def _lacks_items(record: Record) -> bool:
    """Whether one epoch is reported of a run, on validation, without its outcomes per item."""
    return record.status == "done" and not record.items and bool(record.validation) and not record.selected_by_task


def other_references(incoming: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On runs whose dummy baseline has other test scores than that of the other runs on the same data."""
    known: dict[tuple[str, ...], list[Record]] = {}
    for record in present:
        known.setdefault(_partition(record), []).append(record)
    groups: dict[tuple[str, ...], list[SharedRun]] = {}
    for run in incoming:
        groups.setdefault(_partition(run.record), []).append(run)
    for group, runs in groups.items():
        expected = {text_of(one.reference): one.reference for one in known.get(group, [])}
        if not expected:
            texts = Counter(text_of(run.record.reference) for run in runs)
            most = max(texts, key=texts.__getitem__)
            expected = {most: next(run.record.reference for run in runs if text_of(run.record.reference) == most)}
        odd = [
            run.name
            for run in runs
            if text_of(run.record.reference) not in expected
            and not any(_alike(run.record.reference, one) for one in expected.values())
        ]
        if odd:
            yield f"{group[0]}: expected the reference of other runs on the same data, found another in {named(odd)}."


def _partition(record: Record) -> tuple[str, ...]:
    """Runs of one group should have the same dummy baseline on test."""
    return (*data_group(record), _mark(record), text_of([task.model_dump() for task in record.tasks]))


def _alike(one: Scores, other: Scores) -> bool:
    flat = [{(task, key): value for task, of in scores.items() for key, value in of.items()} for scores in (one, other)]
    return flat[0].keys() == flat[1].keys() and all(_close(value, flat[1][key]) for key, value in flat[0].items())


def _close(one: float, other: float) -> bool:
    both_nan = math.isnan(one) and math.isnan(other)
    return both_nan or one == other or math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)


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
