"""What a merge adds to a folder of results: everything is checked before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.exchange.agreement import disagreements
from bench.exchange.data_agreement import unmarked_data
from bench.exchange.registered import other_defaults
from bench.exchange.shared_runs import LARGEST_FILES, ExchangeError, SharedRun, Source
from bench.exchange.target import of_no_run, require_room, unwritable
from bench.inventory.states import find_runs
from bench.records.files import storage_error
from bench.records.plain_text import named
from bench.records.reading import Damaged, read_bytes
from bench.records.record import Record
from bench.records.store import run_folder, run_folders, run_name
from bench.records.trial_seeds import are_trials, holds_trials, trial_seeds, trials_among
from bench.records.trials import TUNING
from bench.spec.resolve import RunKey
from bench.spec.versions import code_remarks, version_remarks


@dataclass(frozen=True)
class Merge:
    """What a merge does.

    new: runs that are not there.
    instead: those that take the place of a failed or an unfinished run.
    same: those that are there with equal content.
    trial_seeds: of trials that settings of the runs come from, which the target has to know.
    remarks: for the user.
    """

    new: list[SharedRun] = field(default_factory=list)
    instead: list[SharedRun] = field(default_factory=list)
    same: list[SharedRun] = field(default_factory=list)
    trial_seeds: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)

    @property
    def added(self) -> list[SharedRun]:
        """All that are copied."""
        return [*self.new, *self.instead]


def plan_merge(sources: Sequence[Source], into: Path) -> Merge:
    """What the runs of these sources add to a folder of results.

    Raises:
        ExchangeError: one of them may not be added; the message has a line for each reason.
        RecordError, StorageError: the seeds of trials can't be read.
    """
    errors = [error for source in sources for error in source.errors]
    found = {run.folder: run for run in find_runs(into, errors)}
    merge = Merge()
    errors += unwritable([run for source in sources for run in source.runs], into)
    for run in _once([run for source in sources for run in source.runs], errors):
        there = found.get(run_folder(into, *run.key))
        if there is None:
            merge.new.append(run)
        elif there.record is None or there.record.status == "failed":
            merge.instead.append(run)
            merge.remarks.append(f"{run.name}: takes the place of a run that is {there.state}.")
            stays = of_no_run(there.folder)
            stays = f"{there.folder}: {there.holder.name} trains it; stop that first." if there.holder else stays
            errors += [stays] if stays else []
        elif difference := _difference(run, there.record, there.folder):
            errors.append(_in_both(run, into, difference))
        else:
            merge.same.append(run)
    present = [run.record for run in found.values() if run.record and run.record.status != "failed"]
    added = merge.added
    errors += [*disagreements(added, present), *_beside_trials(sources, into, added, present)]
    if errors:
        raise ExchangeError("\n".join(dict.fromkeys(errors)))
    require_room(added, into)
    merge.trial_seeds.update(*(source.trial_seeds for source in sources))
    merge.remarks.extend(_remarks(added, present))
    return merge


def _once(runs: Sequence[SharedRun], errors: list[str]) -> list[SharedRun]:
    """Each run once; those that differ between sources are added to `errors`."""
    firsts: dict[RunKey, SharedRun] = {}
    for run in runs:
        first = firsts.setdefault(run.key, run)
        if difference := _difference(run, first.record, first.folder) if first is not run else "":
            errors.append(_in_both(run, first.source, difference))
    return list(firsts.values())


def _in_both(run: SharedRun, other: object, difference: str) -> str:
    return f"{run.name}: is in {run.source} and in {other}, with {difference}; keep one: delete or move the other."


def _difference(run: SharedRun, record: Record, folder: Path) -> str:
    """What differs between a run and the one with this record and folder, in words; "" for nothing."""
    names = [
        name for name in LARGEST_FILES if _digest(folder, name) != (m.sha256 if (m := run.files.get(name)) else "")
    ]
    if not names:
        return ""
    fields = [name for name in Record.model_fields if getattr(run.record, name) != getattr(record, name)]
    return f"other content in {', '.join(names)}" + (f" ({', '.join(fields)})" if fields else "")


def _digest(folder: Path, name: str) -> str:
    """SHA-256 of a file of a run; "" if there is none that could be shared."""
    try:
        return hashlib.sha256(read_bytes(folder / name, LARGEST_FILES[name])).hexdigest()
    except Damaged:
        return ""
    except OSError as error:
        raise storage_error(folder / name, error) from error


def reported_trials(sources: Sequence[Source], runs: Sequence[SharedRun]) -> Iterator[str]:
    """Sentences on runs that would be reported though their seed was used for tuning."""
    for source in sources:
        if names := [run.name for run in runs if run.record.seed in source.trial_seeds]:
            yield f"{source.name}: expected no run with a seed of its trials of tuning, found {named(names)}."


def _beside_trials(
    sources: Sequence[Source], into: Path, added: Sequence[SharedRun], present: Sequence[Record]
) -> Iterator[str]:
    """Sentences on trials among other runs, and on runs with the seed of a trial."""
    of_trials = holds_trials(into) or are_trials(present)
    if not of_trials and (error := trials_among(present)):
        yield f"{into}: {error}."
    kinds = {True: "trials", False: "runs that are reported"}
    for source in sources:
        if source.of_trials != of_trials:
            yield f"{source.name}: expected {kinds[of_trials]} as in {into}, found {kinds[source.of_trials]}."
    if of_trials:
        yield from _reported_above(into, added)
        return
    yield from reported_trials(sources, added)
    yield from reported_trials([Source(str(into), trial_seeds=sorted(trial_seeds(into)))], added)
    seeds = {seed for source in sources for seed in source.trial_seeds}
    if names := [run_name(*one.key) for one in present if one.seed in seeds]:
        yield f"{into}: expected no run with a seed of the trials that are merged, found {named(names)}."


def _reported_above(into: Path, trials: Sequence[SharedRun]) -> Iterator[str]:
    """A sentence on trials with a seed of a run that the results around them report."""
    if into.name != TUNING:
        return
    reported = {folder.name for folder in run_folders(into.parent, [])}
    if names := [run.name for run in trials if run.folder.name in reported]:
        yield f"{into}: expected no trial with a seed of a run in {into.parent}, found {named(names)}."


def _remarks(added: Sequence[SharedRun], present: Sequence[Record]) -> Iterator[str]:
    """On other versions of the code, other machines, and twins without their sources."""
    records = [run.record for run in added]
    yield from version_remarks(records)
    yield from code_remarks(records)
    yield from other_defaults(records)
    everything = [*records, *present] if records else []
    yield from unmarked_data(everything)
    for name in ("torch", "device", "cpu", "threads"):
        values = sorted({str(record.environment.get(name, "unknown")) for record in everything})
        if len(values) > 1:
            yield f"Together, the runs have {len(values)} values of {name}: {named(values)}."
    known = {record.key for record in everything}
    for record in records:
        if missing := [name for name, key in _sources(record) if key not in known]:
            yield f"{run_name(*record.key)}: is the twin of {named(missing)}, not there."


def _sources(record: Record) -> list[tuple[str, RunKey]]:
    """The runs whose mean weights a frozen twin has."""
    settings: Mapping[str, Any] = record.settings.get("weighting", {})
    data, _, variant = str(settings.get("source", "")).partition("/")
    seeds = settings.get("source_seeds", []) if record.weighting == "frozen" and variant else []
    return [(run_name(data, variant, seed), (data, variant, seed)) for seed in seeds]
