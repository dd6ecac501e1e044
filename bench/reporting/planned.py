"""The tables that a study asks for, cut from the comparison of a data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.records.record import Record
from bench.reporting.changed_code import with_changed_code_marked
from bench.reporting.comparison import SINGLE_TASK, Comparison, Variant, comparisons, single_task_runs, unusual_protocol
from bench.reporting.differences import budget_differences
from bench.reporting.labels import show_settings, without
from bench.reporting.stale_twins import STALE, with_stale_twins_marked
from bench.reporting.statistics import mean


@dataclass(frozen=True)
class PlannedRow:
    """A row that a study asks for.

    candidates: method and overrides of each run that it may show; of several, the best on validation is shown.
    trials: of the tuning that its settings come from.
    twin_of: label of the row whose frozen twin it shows; the candidates are then the runs of that row.
    """

    label: str
    candidates: tuple[tuple[str, Mapping[str, Any]], ...]
    trials: int = 0
    twin_of: str = ""


@dataclass(frozen=True)
class PlannedTable:
    """A table that a study asks for of one data set. name: its folder."""

    name: str
    title: str
    rows: tuple[PlannedRow, ...]


def compared(
    results: Path, records: Sequence[Record], tables_of: Callable[[str], Sequence[PlannedTable]] | None
) -> tuple[Comparison, ...]:
    """The comparisons of some records, with a note on stale twins; those of a study's tables, where it has some.

    tables_of(data set) -> the tables that a study asks for; None puts all rows of a data set in one table.

    Raises:
        RecordError: records that contradict each other, or a curve that can't be read.
    """
    found = tuple(with_changed_code_marked(with_stale_twins_marked(results, one)) for one in comparisons(records))
    if tables_of is None:
        return found
    of_data = {name: [record for record in records if record.data == name] for name in {one.data for one in found}}
    return tuple(part for one in found for part in arranged(one, tables_of(one.data), of_data[one.data]))


def arranged(
    comparison: Comparison, tables: Sequence[PlannedTable], records: Sequence[Record] = ()
) -> tuple[Comparison, ...]:
    """A comparison for each planned table, rows in the planned order; tables without runs are left out.

    Rows without runs are `absent`.

    records: those of the data set, whatever their tasks; the runs of single-task learning of a table are among them.
    """
    parts = []
    for table in tables:
        rows = [_shown(comparison, row, place) for place, row in enumerate(table.rows)]
        variants = _marked([row for row in rows if row is not None])
        if variants:
            label = f"{comparison.label}: {table.title}"
            same = [record for record in records if unusual_protocol(record) == comparison.protocol]
            single_task = _single_task(table, same) or comparison.single_task
            absent = tuple(row.label for row, shown in zip(table.rows, rows, strict=True) if shown is None)
            part = replace(comparison, label=label, variants=variants, part=table.name, absent=absent)
            parts.append(replace(part, single_task=single_task))
    return tuple(parts)


def _single_task(table: PlannedTable, records: Sequence[Record]) -> dict[int, Record]:
    """The runs of single-task learning of the table's first row of them; none without such a row."""
    given = [overrides for row in table.rows for method, overrides in row.candidates if method == SINGLE_TASK]
    return single_task_runs(records, given[0]) if given else {}


def _marked(rows: Sequence[Variant]) -> tuple[Variant, ...]:
    """The rows with notes on what their labels don't say: another budget, other data. Equal labels get their keys."""
    labels = Counter(row.label for row in rows)
    odd = budget_differences([next(iter((row.scored or row.runs).values())) for row in rows])
    return tuple(
        replace(
            row,
            label=row.label if labels[row.label] == 1 else f"{row.label} ({row.key})",
            notes=(*row.notes, *(note for note in notes if note not in row.notes)),
        )
        for row, notes in zip(rows, odd, strict=True)
    )


def _shown(comparison: Comparison, row: PlannedRow, place: int) -> Variant | None:
    """The row's only candidate, or the one with the highest mean validation score; None if none was run."""
    common = comparison.common
    # Other settings than the rows' common ones may be left unsaid, as those of a whole study run with --set.
    agreeing = [(method, o) for method, o in row.candidates if all(o.get(key, v) == v for key, v in common.items())]
    wanted = [(method, without(overrides, common)) for method, overrides in agreeing]
    found = [v for v in comparison.variants if (v.method, without(v.first.overrides, common)) in wanted]
    if row.twin_of:
        return _twin(comparison, found, row, place)
    if not found:
        return None
    shown, notes = found[0], list[str]()
    if len(wanted) > 1 and not all(variant.selected_on_validation for variant in found):
        notes.append(f"of {len(wanted)}, the first one: without validation none is chosen")
    elif len(wanted) > 1:
        seeds = {seed for variant in found for seed in variant.runs}  # those of other rows don't matter here
        complete = [variant for variant in found if set(variant.scored) == seeds]
        if complete:
            shown = max(complete, key=_validation_score)
        settings = show_settings(without(shown.first.overrides, common))
        notes.append(f"of {len(wanted)}, {len(complete)} of them finished, the best on validation: {settings}")
    # The best of several candidates was tuned on validation, too.
    trials = row.trials or (len(wanted) if len(wanted) > 1 else 0)
    notes += shown.notes
    return replace(
        shown,
        label=row.label,
        colour=place,
        notes=tuple(notes),
        trials=trials,
        tuned=row.trials,
        twin_of=row.twin_of,
        candidates=tuple(variant.key for variant in found),
    )


def _twin(comparison: Comparison, sources: Sequence[Variant], row: PlannedRow, place: int) -> Variant | None:
    """The frozen twin of a source; None if none was run.

    Of several, one whose weights are those of the runs that are here now; of these, that of most seeds of the source.
    """
    names = [f"{comparison.data}/{source.key}" for source in sources]
    found = [variant for variant in comparison.variants if _settings(variant).get("source") in names]
    if not found:
        return None
    shown = max(found, key=lambda variant: (STALE not in variant.notes, len(_settings(variant)["source_seeds"])))
    others = f"of {len(found)} twins, that of most seeds of its source" if len(found) > 1 else ""
    notes = (*filter(None, [others]), *shown.notes)
    keys = tuple(variant.key for variant in found)
    return replace(
        shown, label=row.label, colour=place, notes=notes, trials=row.trials, twin_of=row.twin_of, candidates=keys
    )


def _settings(variant: Variant) -> Mapping[str, Any]:
    """The settings of its weighting."""
    return variant.first.settings.get("weighting", {})


def _validation_score(variant: Variant) -> float:
    """The mean over seeds of the score that picked the epoch; without one, the lowest."""
    score = mean([run.selected.score for run in variant.scored.values() if run.selected is not None])
    return -math.inf if math.isnan(score) else score
