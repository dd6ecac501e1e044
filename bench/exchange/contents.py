"""What is wrong with the content of files that come from somewhere else, in words."""

from __future__ import annotations

import hashlib
import json
import re

from bench.records.record import Record
from bench.records.tables import NumberTable
from bench.spec.shown import shown

_CELL = re.compile(r"(-?([0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?|inf))?")  # NaN is an empty cell
_COLUMN = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_./|+ -]*)?")  # cosines have pairs of tasks, a|b


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


def wrong_curve(curve: NumberTable, record: Record) -> str:
    """How the curve of a run contradicts its record; "" if it doesn't."""
    if len(curve) != record.epochs:
        return f"expected a row for each of the {record.epochs} epochs of the record, found {len(curve)} rows"
    if curve["epoch"].tolist() != list(range(1, record.epochs + 1)):
        return f"expected the epochs 1 to {record.epochs} in their order, found others"
    if record.status != "done":
        return ""
    if curve["step"][-1] != record.steps:
        return f"expected {record.steps} steps at the end, as the record says, found {curve['step'][-1]:g}"
    for task, scores in record.validation.items():
        selected = record.selected_by_task.get(task, record.selected)
        for metric, score in scores.items():
            column = f"validation/{task}/{metric}"
            if selected is not None and column in curve and curve[column][selected.epoch - 1] != score:
                return (
                    f"{column}: expected {score:g} at the selected epoch {selected.epoch}, as the record says, found "
                    f"{curve[column][selected.epoch - 1]:g}"
                )
    return ""
