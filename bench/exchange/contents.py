"""What is wrong with the content of files that come from somewhere else, in words."""

from __future__ import annotations

import hashlib
import json

from bench.records.record import Record
from bench.spec.shown import shown


def wrong_names(record: Record) -> str:
    """How settings, overrides and variant of a record contradict each other; "" if they don't."""
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


def wrong_table(content: bytes, key: str, rows: int | None) -> str:
    """What keeps a file from being a table of numbers with a column of this name; "" if it is one.

    rows: how many it must have; None if that isn't known.
    """
    try:
        head, *lines = content.decode("utf-8").splitlines()
        names = head.split(",")
        cells = [line.split(",") for line in lines]
        for line in cells:
            list(map(float, filter(None, line)))  # NaN is an empty cell
    except ValueError:  # also of text that is not UTF-8, and of an empty file
        return "expected a table of numbers in CSV, found something else"
    if key not in names:
        return f"expected a column {key!r}, found others"
    if odd := next((line for line in cells if len(line) != len(names)), None):
        return f"expected {len(names)} values in each row, found {len(odd)}"
    if rows is not None and len(cells) != rows:
        return f"expected a row for each of the {rows} epochs of the record, found {len(cells)} rows"
    return ""
