"""The records that the paper's tables are made from, and which of them no table shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from bench.records.record import Record
from bench.reporting.labels import row_labels
from bench.reporting.paper.layout import LABELS, TABLE4
from bench.reporting.paper.rows import FilledTable
from bench.reporting.paper.status import Asked
from bench.reporting.planned import PlannedTable

# A row of a folder of results: data set and variant.
RowKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class PlannedRun:
    """Runs that a study plans, whatever their seed."""

    data: str
    method: str
    overrides: Mapping[str, Any]

    def is_of(self, record: Record) -> bool:
        """Whether a run has these settings, and perhaps others, such as those of a whole study on the command line."""
        same = self.overrides.items() <= record.overrides.items() if self.overrides else not record.overrides
        return (record.data, record.method) == (self.data, self.method) and same


@dataclass(frozen=True)
class Source:
    """Where the rows of some tables come from.

    study: its name or file, for the commands that make what is missing.
    seeds: those it asks for; () if that isn't known.
    tables_of(data set) -> the one table of the study that tells the rows; None for all rows of a data set.
    ablations: what Table 4 has of the same records, and other tables therefore don't.
    """

    study: str
    results: Path
    records: Sequence[Record]
    tables_of: Callable[[str], Sequence[PlannedTable]] | None = None
    seeds: tuple[int, ...] = ()
    ablations: tuple[PlannedRun, ...] = ()

    @property
    def asked(self) -> Asked:
        """What makes its rows."""
        return Asked(self.study, self.seeds)


def without_ablations(source: Source, table4: Sequence[FilledTable]) -> Source:
    """The source without the ablations that Table 4 really shows."""
    shown = _shown(table4)
    kept = [
        record
        for record in source.records
        if (record.data, record.variant) not in shown or not any(run.is_of(record) for run in source.ablations)
    ]
    return replace(source, records=kept)


def left_out(methods: Source, ablations: Source, filled: Sequence[FilledTable]) -> list[str]:
    """Sentences on what is in the records, but not in the tables."""
    records = [*methods.records, *ablations.records]
    others = dict.fromkeys(record.labels.data for record in records if record.data not in LABELS)
    sentences = [f"Runs on other data sets are not here: {', '.join(others)}."] if others else []
    sentences += [sentence for one in filled for sentence in one.left_out]
    if methods.results == ablations.results:
        sentences += _not_shown(records, filled, "that no table shows")
    else:
        usual = [one for one in filled if one.layout is not TABLE4]
        table4 = [one for one in filled if one.layout is TABLE4]
        sentences += _not_shown(methods.records, usual, "that Tables 1 to 3 don't show")
        sentences += _not_shown(ablations.records, table4, "among the records of Table 4, which doesn't show them")
    return list(dict.fromkeys(sentences))


def _not_shown(records: Sequence[Record], tables: Sequence[FilledTable], where: str) -> list[str]:
    """A sentence for each data set of the paper on the rows that none of the tables has, nor says why."""
    told = _shown(tables) | {key for one in tables for key in one.unusable}
    sentences = []
    for data, label in LABELS.items():
        runs = {run.variant: run for run in records if run.data == data and (data, run.variant) not in told}
        if runs:
            sentences.append(f"Left out: rows on {label} {where}: {'; '.join(row_labels(runs, {}).values())}.")
    return sentences


def _shown(tables: Sequence[FilledTable]) -> set[RowKey]:
    """The rows that the tables show, and those out of which they show the best."""
    variants = [(data, variant) for one in tables for row in one.rows for data, variant in row.variants.items()]
    return {(data, key) for data, variant in variants for key in (variant.key, *variant.candidates)}
