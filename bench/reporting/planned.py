"""The tables that a study asks for, cut from the comparison of a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.labels import show_settings, without
from bench.reporting.statistics import mean


@dataclass(frozen=True)
class PlannedRow:
    """A row that a study asks for.

    candidates: method and overrides of each run that it may show; of several, the best on validation is shown.
    twin: whether it shows the frozen twin of these runs instead of them.
    """

    label: str
    candidates: tuple[tuple[str, Mapping[str, Any]], ...]
    twin: bool = False


@dataclass(frozen=True)
class PlannedTable:
    """A table that a study asks for of one data set. name: its folder."""

    name: str
    title: str
    rows: tuple[PlannedRow, ...]


def arranged(comparison: Comparison, tables: Sequence[PlannedTable]) -> tuple[Comparison, ...]:
    """A comparison for each planned table, rows in the planned order; rows and tables without runs are left out."""
    parts = []
    for table in tables:
        rows = [_shown(comparison, row, place) for place, row in enumerate(table.rows)]
        variants = tuple(row for row in rows if row is not None)
        if variants:
            label = f"{comparison.label}: {table.title}"
            parts.append(replace(comparison, label=label, variants=variants, part=table.name))
    return tuple(parts)


def _shown(comparison: Comparison, row: PlannedRow, place: int) -> Variant | None:
    """The row's only candidate, or the one with the highest mean validation score; None if none was run."""
    common = comparison.common
    wanted = [(method, without(overrides, common)) for method, overrides in row.candidates]
    found = [v for v in comparison.variants if (v.method, without(v.first.overrides, common)) in wanted]
    if row.twin:
        return _twin(comparison, found, row, place)
    if not found:
        return None
    shown, notes = found[0], list[str]()
    if len(wanted) > 1:
        complete = [variant for variant in found if variant in comparison.complete]
        if complete:
            shown = max(complete, key=_validation_score)
        settings = show_settings(without(shown.first.overrides, common))
        notes.append(f"of {len(wanted)}, {len(complete)} of them finished, the best on validation: {settings}")
    return replace(shown, label=row.label, colour=place, notes=(*notes, *shown.notes))


def _twin(comparison: Comparison, sources: Sequence[Variant], row: PlannedRow, place: int) -> Variant | None:
    """The frozen twin of a source: of several, that of most seeds of the source; None if none was run."""
    names = [f"{comparison.data}/{source.key}" for source in sources]
    found = [variant for variant in comparison.variants if _settings(variant).get("source") in names]
    if not found:
        return None
    shown = max(found, key=lambda variant: len(_settings(variant)["source_seeds"]))
    others = f"of {len(found)} twins, that of most seeds of its source" if len(found) > 1 else ""
    return replace(shown, label=row.label, colour=place, notes=(*filter(None, [others]), *shown.notes))


def _settings(variant: Variant) -> Mapping[str, Any]:
    """The settings of its weighting."""
    return variant.first.settings.get("weighting", {})


def _validation_score(variant: Variant) -> float:
    """The mean over seeds of the score that picked the epoch; without one, the lowest."""
    score = mean([run.selected.score for run in variant.scored.values() if run.selected is not None])
    return -math.inf if math.isnan(score) else score
