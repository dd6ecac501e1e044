"""Runs beside what is registered here: names of another method are refused, other defaults are said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from bench.exchange.shared_runs import SharedRun
from bench.records.plain_text import named
from bench.records.record import Record
from bench.records.store import run_name
from bench.reporting.differences import flat
from bench.spec.kept import compared_settings
from bench.spec.lookup import UnknownName
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from bench.spec.shown import shown
from bench.spec.twins import FROZEN
from datasets import DATASETS
from methods import METHODS

_LABELS = {info.label: name for name, info in METHODS.items()}
_PAIRS = {(info.architecture, info.weighting): name for name, info in METHODS.items()}
_LISTS = "data.splits"  # a record names the content of lists, not their folder


def named_method(record: Record) -> str:
    """The method that a label stands for: of a frozen twin, with that of its source."""
    source = record.settings.get("weighting", {}).get("source") if record.weighting == FROZEN else ""
    return f"{record.method} of {str(source).rpartition('/')[2].partition('@')[0]}" if source else record.method


def misnamed(runs: Iterable[SharedRun]) -> Iterator[str]:
    """Sentences on runs that are called what they are not, by what is registered here."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for error in _misnamed(run.record):
            found.setdefault(error, []).append(run.name)
    return (f"{error} in {named(names)}." for error, names in found.items())


def _misnamed(record: Record) -> Iterator[str]:
    method, pair = record.method, (record.architecture, record.weighting)
    own = METHODS.get(method)
    if own is not None and pair != (own.architecture, own.weighting):
        expected = f"{own.architecture} and {own.weighting}, as {method} has"
        yield f"architecture and weighting: expected {expected}, found {shown(' and '.join(pair))}"
    elif own is None and pair in _PAIRS:
        yield f"method: expected {_PAIRS[pair]}, which {' with '.join(pair)} is, found {shown(method)}"
    if record.control and record.data in DATASETS and not DATASETS[record.data].control:
        yield f"control: expected false, as {record.data} is none, found true"
    other = _LABELS.get(record.labels.method)
    if other not in (None, method):
        yield f"labels.method: expected no label of another method, found that of {other} for {shown(method)}"


def other_defaults(records: Sequence[Record]) -> Iterator[str]:
    """Remarks on runs that this code would train with other settings, and on those that it can't be asked about."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if text := _beside_this_code(record):
            found.setdefault((record.data, text), []).append(run_name(*record.key))
    return (f"{data}: {text}: {named(names)}." for (data, text), names in found.items())


def _beside_this_code(record: Record) -> str:
    spec = _resolved(record.data, record.architecture, record.weighting, json.dumps(record.overrides, sort_keys=True))
    if isinstance(spec, str):
        return f"not compared with the settings of this code ({spec})"
    then, now = compared_settings(spec, record)
    info = spec.info
    found = {**flat(then), **_declared(record.kind, record.selection, record.control, record.labels.data)}
    here = {**flat(now), **_declared(info.kind, info.selection, info.control, info.label)}
    if own := METHODS.get(record.method):
        found["labels.method"] = record.labels.method
        here["labels.method"] = own.label if record.weighting != FROZEN else record.labels.method
    differing = [
        f"{name}={shown(found.get(name))} (here {shown(here.get(name))})"
        for name in {**here, **found}
        if found.get(name) != here.get(name) and name not in record.overrides
    ]
    return f"made with other settings than the defaults of this code: {named(differing)}" if differing else ""


def _declared(kind: str, selection: str, control: bool, label: str) -> dict[str, Any]:
    """What a problem declares."""
    return {"kind": kind, "selection": selection, "control": control, "labels.data": label}


@cache
def _resolved(data: str, architecture: str, weighting: str, overrides: str) -> RunSpec | str:
    """The run as this code would train it; why it can't, in words."""
    assignments = {name: value for name, value in json.loads(overrides).items() if name != _LISTS}
    try:
        return resolve(data, architecture=architecture, weighting=weighting, assignments=assignments)
    except (UnknownName, SpecError) as error:
        return str(error).rstrip(".")
