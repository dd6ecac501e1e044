"""How the tables of a run contradict its record, in words: learning curves, positions and cosines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Set
from pathlib import Path

from bench.exchange.contents import wrong_table
from bench.records.items import ITEMS
from bench.records.record import Record
from bench.records.selected_scores import selected_scores, wrong_scores
from bench.records.store import COSINES, CURVE, POSITIONS
from bench.records.tables import NumberTable, read_numbers
from bench.reporting.series import OF_CURVES

COLUMNS = {CURVE: OF_CURVES, POSITIONS: ("step",), COSINES: ("step",)}  # that reports need


def wrong_files(record: Record, names: Set[str]) -> tuple[str, str]:
    """The file that a run lacks, or shouldn't have, and what is wrong with it; two empty texts if nothing is."""
    if record.items == "" and ITEMS in names:
        return ITEMS, "expected its digest in the record, found none"
    if record.status != "done":
        return "", ""
    every = record.settings.get("train", {}).get("cosines_every")
    expected = {CURVE: True, POSITIONS: bool(record.positions), COSINES: bool(every)}
    for name, there in expected.items():
        if there and name not in names:
            return name, "expected this table of a run that is done, found none"
        if name in names and not there:
            reason = "no positions" if name == POSITIONS else "train.cosines_every = 0"
            return name, f"expected no such table of a run whose record has {reason}, found one"
    return "", ""


def wrong_numbers(folder: Path, name: str, content: bytes, record: Record) -> str:
    """What is wrong with a table of a run, "" if nothing is; raises RecordError if reports couldn't read it."""
    if error := wrong_table(content):
        return error
    if record.status != "done" and not record.epochs and content.count(b"\n") == 1:
        return ""  # it diverged in its first epoch
    table = read_numbers(folder / name, COLUMNS[name])
    if table is None:
        return "expected a table, found none"
    check = {CURVE: _wrong_curve, POSITIONS: _wrong_positions, COSINES: _wrong_cosines}[name]
    return check(table, record)


def _wrong_curve(curve: NumberTable, record: Record) -> str:
    if len(curve) != record.epochs:
        return f"expected a row for each of the {record.epochs} epochs of the record, found {len(curve)} rows"
    if curve["epoch"].tolist() != list(range(1, record.epochs + 1)):
        return f"expected the epochs 1 to {record.epochs} in their order, found others"
    if record.status != "done":
        return ""
    if curve["step"][-1] != record.steps:
        return f"expected {record.steps} steps at the end, as the record says, found {curve['step'][-1]:g}"
    # Without scores on validation, as without such a set, the curve has empty cells; so it has for a score of NaN.
    if missing := selected_scores(record).keys() - curve.columns:
        return f"expected a column {min(missing)!r:.80}, found none"
    return wrong_scores(curve, record)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _wrong_positions(positions: NumberTable, record: Record) -> str:
    keys = [task.key for task in record.tasks]
    if list(positions.columns) != ["step", *keys]:
        return "expected the columns step and one for each task of the record, in their order, found others"
    if positions["step"].tolist() != list(range(1, len(positions) + 1)):
        return "expected the steps from 1 in their order, found others"
    if record.status != "done" or record.selected is None:
        return ""
    if len(positions) != record.steps:
        return f"expected a row for each of the {record.steps} steps of the record, found {len(positions)} rows"
    # Epochs have equal numbers of steps.
    step = record.steps // record.epochs * record.selected.epoch
    for key in keys:
        if not _same(found := float(positions[key][step - 1]), record.positions.get(key, math.nan)):
            return f"{key}: expected {record.positions.get(key, math.nan):g} at step {step}, found {found:g}"
    return ""


def _wrong_cosines(cosines: NumberTable, record: Record) -> str:
    pairs = [f"{first.key}|{second.key}" for first, second in itertools.combinations(record.tasks, 2)]
    if list(cosines.columns) != ["step", *pairs]:
        return "expected the columns step and one for each pair of tasks of the record, found others"
    every = record.settings.get("train", {}).get("cosines_every")
    steps = cosines["step"].tolist()
    if steps != sorted(set(steps)) or (steps and not 1 <= steps[0] <= steps[-1] <= record.steps):
        return f"expected steps from 1 to {record.steps} in their order, found others"
    return "" if every else "expected no cosines of a run with train.cosines_every = 0, found some"
