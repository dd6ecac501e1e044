"""Which of our rows stands in which row of a table of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.records.record import MetricRecord
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.labels import without
from bench.reporting.paper.layout import AVERAGE, GAIN, LABELS, N_TASKS, PaperTable
from bench.reporting.paper.printed import printed_rows
from bench.reporting.paper.seeds import with_seeds_of
from bench.spec.lookup import same_name

NOT_IN_PAPER = "not in the paper's table"
# The usual protocol, and the paper's: all 795 training images of NYUv2, none for validation.
PROTOCOLS = ("", "published")


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    printed: its name in the file of the printed numbers; empty if the paper doesn't have it.
    variants: our row on each data set that has one.
    """

    printed: str
    label: str
    variants: Mapping[str, Variant]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on our rows, each with its data set where there are several, and their own labels if they differ."""
        found = [
            (data, note)
            for data, variant in self.variants.items()
            for note in (*((f"row {variant.label}",) if variant.label != self.label else ()), *variant.notes)
        ]
        notes = dict.fromkeys(note for _, note in found)
        texts = [
            note
            if len(self.variants) == 1
            else f"{', '.join(LABELS[data] for data, other in found if other == note)}: {note}"
            for note in notes
        ]
        return tuple(texts) if self.printed else (NOT_IN_PAPER, *texts)


@dataclass(frozen=True)
class FilledTable:
    """A table of the paper with our rows: those of the paper, then the others.

    comparisons: by data set, of those that have comparable runs; with the seeds of the paper's rows.
    protocol: of all of them; empty if it is the usual one.
    left_out: sentences on runs that are there, but not in the table.
    unusable: data set and key of the rows that these sentences are about.
    """

    layout: PaperTable
    comparisons: Mapping[str, Comparison]
    rows: tuple[PaperRow, ...]
    protocol: str = ""
    left_out: tuple[str, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name of its files, without ending."""
        return self.layout.name + (f"-{self.protocol}" if self.protocol else "")

    @property
    def missing(self) -> tuple[str, ...]:
        """Sentences on the paper's rows that have no runs here."""
        sentences = []
        for data in self.layout.data:
            lacking = [row.label for row in self.rows if row.printed and data not in row.variants]
            if data not in self.comparisons:
                sentences.append(f"No runs on {LABELS[data]}.")
            elif lacking:
                sentences.append(f"Not run on {LABELS[data]}: {'; '.join(lacking)}.")
        return tuple(sentences)


def filled_tables(layout: PaperTable, compared: Sequence[Comparison]) -> tuple[FilledTable, ...]:
    """The table by each protocol that it has runs of, the usual one first; without any runs, an empty one."""
    own = [comparison for comparison in compared if comparison.data in layout.data]
    some = dict.fromkeys(LABELS[comparison.data] for comparison in own if comparison.chosen)
    sentences = [f"Left out: runs on some of the tasks of {', '.join(some)}."] if some else []
    usable = []
    for comparison in (comparison for comparison in own if not comparison.chosen):
        odd = "by another protocol" if comparison.protocol not in PROTOCOLS else _mismatch(layout, comparison)
        if odd:
            sentences.append(f"Left out: the runs on {LABELS[comparison.data]}, {odd}.")
        else:
            usable.append(comparison)
    unusable = tuple((c.data, variant.key) for c in own if c not in usable for variant in c.variants)
    protocols = sorted({comparison.protocol for comparison in usable}) or [""]
    return tuple(
        replace(
            _filled(layout, {c.data: c for c in usable if c.protocol == protocol}, protocol),
            left_out=tuple(sentences),
            unusable=unusable,
        )
        for protocol in protocols
    )


def _filled(layout: PaperTable, comparisons: Mapping[str, Comparison], protocol: str) -> FilledTable:
    comparisons = {data: _by_own_seeds(layout, comparison) for data, comparison in comparisons.items()}
    rows = []
    shown: dict[str, list[Variant]] = {data: [] for data in comparisons}
    for name in printed_rows(layout):
        variants = {}
        for data, comparison in comparisons.items():
            variant = _counterpart(layout, comparison, name)
            if variant is not None:
                variants[data] = variant
                shown[data].append(variant)
        rows.append(PaperRow(name, layout.rows.get(name, name), variants))
    others: dict[str, dict[str, Variant]] = {}
    for data, comparison in comparisons.items():
        for variant in (v for v in comparison.variants if v not in shown[data]):
            others.setdefault(variant.label, {})[data] = variant
    extra = [PaperRow("", label, variants) for label, variants in others.items()]
    return FilledTable(layout, comparisons, (*rows, *extra), protocol)


def _by_own_seeds(layout: PaperTable, comparison: Comparison) -> Comparison:
    """The comparison with the seeds of the paper's rows."""
    found = [_counterpart(layout, comparison, name) for name in printed_rows(layout)]
    return with_seeds_of([variant for variant in found if variant is not None], comparison)


def _counterpart(layout: PaperTable, comparison: Comparison, name: str) -> Variant | None:
    """Our row for a row of the paper: that with the label of the study, or that of the method.

    Of several rows of a method, the one without settings of its own; if all have some, none of them stands for it.
    """
    if layout.rows:
        label = layout.rows[name].casefold()
        return next((v for v in comparison.variants if v.label.casefold() == label), None)
    own = [v for v in comparison.variants if same_name(v.method, name) and not v.twin_of]
    plain = [v for v in own if not without(v.first.overrides, comparison.common)]
    if plain:
        return plain[0]
    return own[0] if len(own) == 1 else None


def _mismatch(layout: PaperTable, comparison: Comparison) -> str:
    """Why the runs can't stand in the table: they have other tasks or metrics; empty if they can."""
    found = {task.key: {metric.key: metric for metric in task.metrics} for task in comparison.tasks}
    if len(found) != N_TASKS[comparison.data]:
        return f"which have {len(found)} tasks instead of {N_TASKS[comparison.data]}"
    columns = [column for column in layout.columns if column.data == comparison.data]
    wanted = [
        (key, column.metric)
        for column in columns
        if column.task != GAIN
        for key in (found if column.task == AVERAGE else [column.task])
    ]
    for key, metric in wanted:
        if not _agree(found.get(key, {}).get(metric.key), metric):
            return f"which have no task {key} with the metric {metric.key} in the paper's unit"
    if any(column.task == GAIN for column in columns) and len(wanted) != sum(map(len, found.values())):
        return "which have further metrics, so that Δ_b would be another"
    return ""


def _agree(found: MetricRecord | None, wanted: MetricRecord) -> bool:
    return found is not None and (found.direction, found.unit) == (wanted.direction, wanted.unit)
