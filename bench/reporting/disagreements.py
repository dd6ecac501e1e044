"""What the records of a comparison disagree about although it doesn't depend on the method: some have been edited."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeAlias

from bench.records.record import Record, Scores, Selected
from bench.records.same_data import WHOLE, data_settings, split_per_seed
from bench.reporting.labels import seed_list, show_value

Rows: TypeAlias = Mapping[str, Collection[Record]]

_CLOSE = 1e-5  # beyond what another processor or version of numpy changes
_SMALLEST = 1e-4  # as in the engine, which bounds logarithms below


def disagreements(rows: Rows) -> dict[str, tuple[str, ...]]:
    """By variant, notes on runs that are not like most runs of the table in what all should have in common.

    rows: the finished runs of each row.
    """
    found = {
        "epoch selected by another rule than in other rows": _odd_rules(rows),
        "dummy baseline differs from that of other runs on the same data": _odd_runs(rows, _dummy),
        "selected score does not follow from the scores on validation as in other runs": _odd_runs(rows, _offset),
    }
    return {
        key: tuple(f"{what} ({seed_list(odd[key])})" for what, odd in found.items() if odd.get(key)) for key in rows
    }


def _odd_rules(rows: Rows) -> dict[str, set[int]]:
    """Seeds whose epoch was selected on validation by another rule than that of most runs.

    Single-task networks have an epoch for each task, and are compared with each other.
    """
    selected = [(key, run, run.selected) for key, runs in rows.items() for run in runs if run.validation]
    rules: dict[bool, Counter[str]] = {}
    for _, run, one in selected:
        rules.setdefault(bool(run.selected_by_task), Counter())[_rule(one)] += 1
    odd: dict[str, set[int]] = {}
    for key, run, one in selected:
        if _rule(one) != rules[bool(run.selected_by_task)].most_common(1)[0][0]:
            odd.setdefault(key, set()).add(run.seed)
    return odd


def _rule(selected: Selected | None) -> str:
    return selected.rule.rstrip(".") if selected else ""


def _odd_runs(rows: Rows, numbers: Callable[[Record], Mapping[str, float]]) -> dict[str, set[int]]:
    """Seeds of runs whose numbers are not the median of all runs that saw the same data."""
    groups: dict[str, list[tuple[str, Record, Mapping[str, float]]]] = {}
    for key, runs in rows.items():
        for run in runs:
            if found := numbers(run):
                groups.setdefault(_data(run), []).append((key, run, found))
    odd: dict[str, set[int]] = {}
    for group in groups.values():
        every: dict[str, list[float]] = {}
        for name, value in (pair for _, _, found in group for pair in found.items()):
            every.setdefault(name, []).append(value)
        usual = {name: statistics.median(values) for name, values in every.items()}
        for key, run, found in group:
            if found.keys() != usual.keys() or any(not _is_close(found[name], usual[name]) for name in usual):
                odd.setdefault(key, set()).add(run.seed)
    return odd


def _data(run: Record) -> str:
    """The same text for runs that saw the same images in the same parts; others are told from each other elsewhere."""
    seed = run.seed if split_per_seed(run.settings) else None
    return show_value([data_settings(run.settings), run.fingerprint.get(WHOLE), run.splits.get("digest"), seed])


def _is_close(one: float, other: float) -> bool:
    return one == other or math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _dummy(run: Record) -> dict[str, float]:
    return dict(_finite(run.reference))


def _finite(scores: Scores) -> Iterator[tuple[str, float]]:
    for task, of_task in scores.items():
        yield from ((f"{task}/{metric}", value) for metric, value in of_task.items() if math.isfinite(value))


def _offset(run: Record) -> dict[str, float]:
    """The selected score less what the logarithms of the scores on validation add to it.

    It is the part of the dummy baseline, on validation, in a mean log gain: the same for all runs on the same data.
    Empty for other scores, which are compared with the record itself when it is read.
    """
    if run.selection != "gain" or run.selected is None or run.selected_by_task:
        return {}
    means = []
    for task in run.tasks:
        of_task = run.validation.get(task.key, {})
        signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.metrics}
        if not all(math.isfinite(of_task.get(key, math.nan)) for key in signs):
            return {}
        means.append(sum(sign * math.log(max(of_task[key], _SMALLEST)) for key, sign in signs.items()) / len(signs))
    offset = run.selected.score - sum(means) / len(means)
    return {"offset": offset} if math.isfinite(offset) else {}
