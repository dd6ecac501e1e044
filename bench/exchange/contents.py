"""What is wrong with the content of files that come from somewhere else, in words."""

from __future__ import annotations

import hashlib
import json
import re

from bench.records.record import Record
from bench.records.same_data import PARTS, WHOLE
from bench.spec.shown import shown

_CELL = re.compile(r"(-?([0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?|inf))?")  # NaN is an empty cell
_COLUMN = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_./|+ -]*)?")  # cosines have pairs of tasks, a|b


def wrong_record(record: Record) -> str:
    """How parts of a record contradict each other, or what they should be; "" if nothing is wrong."""
    keys = {task.key for task in record.tasks}
    if record.fingerprint and record.fingerprint.keys() != {*PARTS, WHOLE}:
        return f"fingerprint: expected {', '.join(PARTS)} and {WHOLE}, found {shown(sorted(record.fingerprint))}"
    flow = record.field_evaluations is not None or (record.parameters is not None and record.parameters.positions > 0)
    if record.status == "done" and (flow or record.positions) and record.positions.keys() != keys:
        return f"positions: expected one for each task, found {shown(sorted(record.positions))}"
    weighting = record.settings.get("weighting", {})
    seeds = weighting.get("source_seeds", [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        return f"settings.weighting.source_seeds: expected a list of seeds, found {shown(seeds)}"
    if not isinstance(source := weighting.get("source", ""), str):
        return f"settings.weighting.source: expected a text, found {shown(source)}"
    return _wrong_names(record)


def _wrong_names(record: Record) -> str:
    for dotted, value in record.overrides.items():
        section, _, key = dotted.partition(".")
        found = record.settings.get(section, {}).get(key)
        if found != value:
            return f"overrides.{dotted}: expected {shown(found)} as in the settings, found {shown(value)}"
    name = record.variant.partition("@")[0]
    text = json.dumps(record.overrides, sort_keys=True).replace('"Infinity"', "Infinity")
    expected = f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}" if record.overrides else name
    if name != record.method or record.variant != expected:
        return f"variant: expected {record.method} with the overrides of the record, found {shown(record.variant)}"
    return ""


def wrong_table(content: bytes) -> str:
    """What keeps a file from being a table of numbers as runs write it; "" if it is one."""
    try:
        text = content.decode("utf-8")
        if not text.endswith("\n"):
            return "expected lines that end, found an open one"
        head, *lines = text[:-1].split("\n")
        names = head.split(",")
        cells = [line.split(",") for line in lines]
        if not all(_CELL.fullmatch(cell) for line in cells for cell in line):
            return "expected a table of numbers in CSV, found something else"
    except UnicodeDecodeError:
        return "expected a table of numbers in CSV, found something else"
    if odd := next((name for name in names if not _COLUMN.fullmatch(name)), None):
        return f"expected names of columns, found {odd!r:.80}"
    if "" in names or len({*names}) < len(names):
        return "expected each column to have a name of its own, found one twice or none"
    if odd_line := next((line for line in cells if len(line) != len(names)), None):
        return f"expected {len(names)} values in each row, found {len(odd_line)}"
    return ""
