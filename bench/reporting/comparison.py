"""Records arranged as comparisons: one per data set, set of tasks and protocol; a row per variant, a run per seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.records.record import Record, Scores, TaskRecord
from bench.records.store import RecordError, run_name
from bench.reporting.differences import data_differences, row_differences, seed_differences
from bench.reporting.disagreements import disagreements
from bench.reporting.labels import hidden_rows, row_labels, seed_list, show_value, without

BASELINE = "ew"
SINGLE_TASK = "stl"
TASKS = "data.tasks"  # the setting that chooses tasks
USUAL_PROTOCOL = "heldout"  # which is not named
LONGEST_FOLDER = 100  # characters of a folder that names tasks


@dataclass(frozen=True)
class Variant:
    """One row: a method with its settings.

    colour: index of the method in its registry, or of the row in its table.
    runs: by seed, whatever their status.
    scored: the finished runs by seed; empty if they must not be averaged.
    notes: what makes the row incomplete or different from the others.
    trials: of the tuning that the row's settings come from, as a study says; None if nothing says it.
    tuned: how many of them are in the table of trials, as a study says; 0 for the best of several rows.
    twin_of: label of the row whose mean weights this row keeps constant; empty for all others.
    candidates: keys of the rows out of which a study shows this one.
    """

    key: str
    method: str
    label: str
    colour: int
    runs: Mapping[int, Record]
    scored: Mapping[int, Record]
    notes: tuple[str, ...]
    trials: int | None = None
    tuned: int = 0
    twin_of: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def first(self) -> Record:
        return next(iter(self.runs.values()))

    def is_row(self, other: Variant) -> bool:
        """Whether this is a row of the same runs, tuned or not: tuning may end with the settings of another row."""
        return self.key == other.key and bool(self.trials) == bool(other.trials)

    @property
    def selected_on_validation(self) -> bool:
        """Whether all finished runs have a validation set, as all protocols but the published one of NYUv2 have."""
        return all(run.validation for run in self.runs.values() if run.status == "done")


@dataclass(frozen=True)
class Comparison:
    """The runs on the same tasks and by the same protocol of a data set, or a part of them: a table of a study.

    Statistics, marks and ranks are of all rows; tables and figures print those that are `shown`.

    label: of the data set, with the tasks where they are not all of them, and with an unusual protocol.
    chosen: keys of the tasks, if they are not all of the data set (`data.tasks`).
    protocol: `data.protocol`, unless it is the usual one.
    seeds: of all rows together.
    common: settings that differ from the defaults in every row alike.
    baseline: the row of EW without settings of its own, which Δ_b and × EW refer to.
    single_task: the finished runs of single-task learning by this protocol by seed, whatever their tasks.
    part: name of the study's table; empty for all runs of a data set.
    absent: labels of rows that the table should have, but that have no runs here.
    variants: all rows, whatever is shown. hidden: labels of those that are left out on request.
    """

    data: str
    label: str
    selection: str
    tasks: tuple[TaskRecord, ...]
    seeds: tuple[int, ...]
    common: Mapping[str, Any]
    variants: tuple[Variant, ...]
    baseline: Variant | None
    chosen: tuple[str, ...] = ()
    protocol: str = ""
    single_task: Mapping[int, Record] = field(default_factory=dict)
    part: str = ""
    absent: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the folders of its tables and figures, below the reports."""
        return tuple(
            name for name in (self.data, _tasks_folder(self.chosen), _protocol_folder(self.protocol), self.part) if name
        )

    @property
    def folder(self) -> str:
        """Their path, as in links."""
        return "/".join(self.places)

    @property
    def absent_rows(self) -> str:
        """A sentence on the rows without runs; empty if there are none."""
        return f"Rows without runs here: {'; '.join(dict.fromkeys(self.absent))}." if self.absent else ""

    @property
    def hidden_rows(self) -> str:
        """Sentences on the rows that are left out on request; empty if there are none."""
        return hidden_rows(self.hidden)

    @property
    def shown(self) -> tuple[Variant, ...]:
        """The rows that are not left out on request."""
        return tuple(v for v in self.variants if v.label not in self.hidden)

    @property
    def complete(self) -> tuple[Variant, ...]:
        """The rows in which every seed has finished."""
        return tuple(v for v in self.variants if set(v.scored) == set(self.seeds))

    @property
    def problem(self) -> str:
        """The name of the problem, without that of a study's table."""
        tasks = f" ({len(self.chosen)} tasks)" if self.chosen else ""
        return self.variants[0].first.labels.data + tasks + (f" ({self.protocol})" if self.protocol else "")

    @property
    def with_baseline(self) -> tuple[Variant, ...]:
        """The rows, and after them EW where the part that is shown leaves it out."""
        absent = self.baseline is not None and not any(v.is_row(self.baseline) for v in self.variants)
        return (*self.variants, self.baseline) if absent and self.baseline else self.variants

    @property
    def control(self) -> bool:
        """Whether the problem is built so that the answer is known."""
        return any(run.control for v in self.variants for run in v.runs.values())

    @property
    def tuned_baseline(self) -> Variant | None:
        """The row of EW whose settings were tuned, as the study says."""
        return next((v for v in self.variants if v.method == BASELINE and v.trials), None)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that picked the reported epochs, as recorded."""
        selected = [run.selected for v in self.variants for run in v.scored.values()]
        return tuple(dict.fromkeys(one.rule.rstrip(".") for one in selected if one is not None))

    @property
    def dummies(self) -> dict[int, Scores]:
        """Test scores of the dummy baseline, which ignores the image, by seed; empty if no run recorded them.

        The seeds are those of EW if it has finished, else all. Of a seed, the scores that most of its runs have.
        """
        found: dict[int, list[Scores]] = {}
        for variant in self.variants:
            for seed, run in variant.runs.items():
                if run.reference:
                    found.setdefault(seed, []).append(run.reference)
        wanted = self.baseline.scored if self.baseline and self.baseline.scored else self.seeds
        return {seed: _most_common(found[seed]) for seed in wanted if seed in found}


def comparisons(records: Sequence[Record]) -> tuple[Comparison, ...]:
    """One comparison per data set, protocol and set of tasks, in the order of the records.

    Of a data set, the usual protocol comes first, then all tasks do. Runs of two protocols have other training images,
    or report other epochs: nothing is computed from both.

    Raises:
        RecordError: records disagree about the tasks of a data set, or there are two of the same run.
    """
    found = []
    for data in dict.fromkeys(record.data for record in records):
        own = [record for record in records if record.data == data]
        for protocol in sorted(dict.fromkeys(map(unusual_protocol, own))):
            same = [record for record in own if unusual_protocol(record) == protocol]
            single = single_task_runs(same)
            sets = sorted(dict.fromkeys(map(chosen_tasks, same)), key=bool)
            found += [_comparison([r for r in same if chosen_tasks(r) == chosen], chosen, single) for chosen in sets]
    return tuple(found)


def _most_common(scores: Sequence[Scores]) -> Scores:
    """Of equally common ones, the first."""
    texts = [show_value(one) for one in scores]
    return scores[texts.index(Counter(texts).most_common(1)[0][0])]


def chosen_tasks(record: Record) -> tuple[str, ...]:
    """The keys of a run's tasks, if its settings say that they are not all of the data set."""
    return tuple(task.key for task in record.tasks) if record.settings.get("data", {}).get("tasks") else ()


def unusual_protocol(record: Record) -> str:
    """The protocol of a run, if its settings have one that is not the usual one."""
    protocol = str(record.settings.get("data", {}).get("protocol") or USUAL_PROTOCOL)
    return "" if protocol == USUAL_PROTOCOL else protocol


def single_task_runs(records: Sequence[Record], given: Mapping[str, Any] | None = None) -> dict[int, Record]:
    """The finished runs of single-task learning by seed.

    Of several rows, that without settings of its own besides `data.tasks`, else the first; of these, that with the most
    tasks. None if the seeds of the row must not be averaged.

    given: settings that the runs have, as the row of a study says; None for any.
    """
    wanted = {} if given is None else given
    runs = [record for record in records if record.method == SINGLE_TASK and record.status == "done"]
    runs = [run for run in runs if all(run.overrides.get(key) == value for key, value in wanted.items())]
    if not runs:
        return {}
    chosen = min(runs, key=lambda run: (bool(run.overrides.keys() - {TASKS, *wanted}), -len(run.tasks)))
    row = {run.seed: run for run in runs if run.variant == chosen.variant}
    return {} if seed_differences(list(row.values())) else row


def _tasks_folder(chosen: Sequence[str]) -> str:
    """A name for these tasks, with a hash where all keys are too long for one; empty if there are none."""
    name = f"tasks-{'+'.join(chosen)}" if chosen else ""
    if len(name) <= LONGEST_FOLDER:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"tasks-{len(chosen)}-{digest}"


def _protocol_folder(protocol: str) -> str:
    return f"protocol-{protocol}" if protocol else ""


def _comparison(records: Sequence[Record], chosen: tuple[str, ...], single_task: Mapping[int, Record]) -> Comparison:
    first = records[0]
    of_tasks = f", tasks {', '.join(task.label for task in first.tasks)}" if chosen else ""
    protocol = unusual_protocol(first)
    by_protocol = f", protocol {protocol}" if protocol else ""
    for record in records:
        if (record.tasks, record.selection) != (first.tasks, first.selection):
            raise RecordError(
                f"{run_name(*record.key)}: expected the tasks and metrics of {run_name(*first.key)}, found others; "
                "delete the older of the two and run it again."
            )
    seeds = tuple(sorted({record.seed for record in records}))
    grouped = {
        key: _by_seed([r for r in records if r.variant == key]) for key in dict.fromkeys(r.variant for r in records)
    }
    common = _common([record.overrides for record in records])
    variants = _variants(grouped, seeds, common)
    baseline = next((v for v in variants if v.method == BASELINE and not without(v.first.overrides, common)), None)
    tasks = tuple(first.tasks)
    return Comparison(
        data=first.data,
        label=first.labels.data + of_tasks + by_protocol,
        selection=first.selection,
        tasks=tasks,
        seeds=seeds,
        common=common,
        variants=variants,
        baseline=baseline,
        chosen=chosen,
        protocol=protocol,
        single_task=single_task,
    )


def _by_seed(records: Sequence[Record]) -> dict[int, Record]:
    runs: dict[int, Record] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.seed in runs:
            raise RecordError(f"{run_name(*record.key)}: expected one record, found two; delete the copy.")
        runs[record.seed] = record
    return runs


def _common(overrides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in overrides[0].items() if all(key in o and o[key] == value for o in overrides)}


def _variants(
    grouped: Mapping[str, Mapping[int, Record]], seeds: Sequence[int], common: Mapping[str, Any]
) -> tuple[Variant, ...]:
    finished = {key: {seed: run for seed, run in runs.items() if run.status == "done"} for key, runs in grouped.items()}
    labels = row_labels({key: next(iter(runs.values())) for key, runs in grouped.items()}, common)
    odd = row_differences({key: next(iter((finished[key] or runs).values())) for key, runs in grouped.items()})
    elsewhere = data_differences({key: list((finished[key] or runs).values()) for key, runs in grouped.items()})
    disagree = disagreements({key: list(runs.values()) for key, runs in finished.items()})
    variants = []
    for key, runs in grouped.items():
        done, first = finished[key], next(iter(runs.values()))
        mixed = seed_differences(list(done.values()))
        others = (*elsewhere[key], *odd[key], *disagree[key])
        notes = (*unfinished(runs, seeds), *mixed, *others, *_not_selected(done), *_unscored(done), *_resumed(done))
        scored = {} if mixed else done
        variants.append(Variant(key, first.method, labels[key], first.order.method, runs, scored, notes))
    return tuple(variants)


def unfinished(runs: Mapping[int, Record], seeds: Sequence[int]) -> tuple[str, ...]:
    """A note on the seeds that other rows have and this row lacks, grouped by reason; none if it has them all."""
    reasons: dict[str, list[int]] = {}
    for seed in seeds:
        run = runs.get(seed)
        if run is None:
            reasons.setdefault("not run", []).append(seed)
        elif run.status != "done":
            reason = " ".join(run.reason.split()).rstrip(".")
            reasons.setdefault(run.status + (f" ({reason})" if reason else ""), []).append(seed)
    note = "; ".join(f"{seed_list(lost)} {reason}" for reason, lost in reasons.items())
    return (note,) if note else ()


def _not_selected(runs: Mapping[int, Record]) -> tuple[str, ...]:
    """A note on runs that report a mean over epochs instead of an epoch selected on validation."""
    rules = [run.selected.rule for run in runs.values() if run.selected is not None and not run.validation]
    return tuple(f"not selected: {rule.removeprefix('none: ')}" for rule in dict.fromkeys(rules))


def _unscored(runs: Mapping[int, Record]) -> tuple[str, ...]:
    """A note on epochs without a finite score on validation, which can't be selected."""
    counts = {seed: run for seed, run in runs.items() if run.unscored_epochs}
    texts = [f"seed {seed} {run.unscored_epochs} of {run.epochs}" for seed, run in sorted(counts.items())]
    return (f"epochs without a finite score on validation: {', '.join(texts)}",) if texts else ()


def _resumed(runs: Mapping[int, Record]) -> tuple[str, ...]:
    """A note on the seeds that went on with other threads or on another device; none if none did."""
    changed: dict[str, list[int]] = {}
    for seed, run in runs.items():
        if run.resumed:
            changed.setdefault("; ".join(run.resumed), []).append(seed)
    note = "; ".join(f"{seed_list(seeds)} {changes}" for changes, seeds in changed.items())
    return (f"resumed on another platform: {note}",) if note else ()
