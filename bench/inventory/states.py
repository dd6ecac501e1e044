"""The state of every run under a folder of results: its record, who trains it, how far it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bench.engine.checkpoint_file import Reached, reached
from bench.records.again import AGAIN, read_whole_run
from bench.records.claim import CLAIM, Holder, has_died, holder_of
from bench.records.plain_text import one_line
from bench.records.record import Record
from bench.records.store import (
    CHECKPOINT,
    RECORD,
    SEED_PREFIX,
    RecordError,
    run_folders,
    run_name,
    without_collector,
)
from bench.spec.versions import changed_code, why_stale

State = Literal["done", "stale", "diverged", "failed", "running", "interrupted", "damaged"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class FoundRun:
    """A run that has a folder.

    data, variant, seed: by the names of its folders.
    record: None without a valid one. error: what is wrong with it; "" if nothing is.
    state: "stale" is a run that has ended, with another version of the code than today's.
    note: what there is to know about the state, in words: a reason, a difference, how far it is.
    holder: the living process that trains it.
    reached: how far an unfinished run is.
    """

    folder: Path
    data: str
    variant: str
    seed: str
    record: Record | None
    state: State
    note: str = ""
    error: str = ""
    holder: Holder | None = None
    reached: Reached | None = None

    @property
    def name(self) -> str:
        """The folder below the results."""
        return run_name(self.data, self.variant, self.seed)

    @property
    def written(self) -> float | None:
        """When the record, or else the checkpoint, was written, in seconds since 1970; None without any."""
        for name in (RECORD, CHECKPOINT):
            try:
                return (self.folder / name).stat().st_mtime
            except OSError:
                continue
        return None


def find_runs(results: Path, errors: list[str]) -> list[FoundRun]:
    """All runs under a folder of results, in the order of their folders; none if there is no such folder.

    Folders without any file of a run are left out. Bad records, and folders that can't be read, are added to `errors`.
    """
    with without_collector():
        looked = [look_at(folder) for folder in run_folders(results, errors)]
    found = [run for run in looked if run is not None]
    errors += [run.error for run in found if run.error]
    return found


def look_at(folder: Path) -> FoundRun | None:
    """The run in a folder; None if nothing of a run is there."""
    record, error = None, ""
    try:
        record = read_whole_run(folder)
    except RecordError as problem:
        error = str(problem)
    try:
        names = set(os.listdir(folder))
    except OSError:
        names = set()
    holder = _living_holder(folder) if CLAIM in names else None
    if record is None and not error and holder is None and not names:
        return None
    partly = [folder / CHECKPOINT] if CHECKPOINT in names else []
    partly += [folder / AGAIN / CHECKPOINT] if AGAIN in names else []
    far = next((found for path in partly if (found := reached(path))), None)
    state, note = _state(record, error, holder, far)
    data, variant, seed = folder.parts[-3:]
    seed = seed.removeprefix(SEED_PREFIX)
    return FoundRun(folder, data, variant, seed, record, state, one_line(note), error, holder, far)


def _state(record: Record | None, error: str, holder: Holder | None, far: Reached | None) -> tuple[State, str]:
    """The state of a run, and what there is to know about it."""
    if holder is not None:
        stays = "; its record stays until then" if record and record.status != "failed" else ""
        return "running", f"{progress(holder)}{stays}"
    if error:
        return "damaged", error
    if record is None:
        return "interrupted", _epochs(far) if far else "no finished epoch"
    if record.status == "failed":
        return "failed", record.reason
    again = f"; partly trained again, {_epochs(far)}" if far else ""
    if difference := why_stale(record):
        return "stale", f"made {difference}{again}"
    changes = "; ".join(f"the code of {part} changed, its version did not" for part in changed_code(record))
    notes = "; ".join(filter(None, [record.reason, changes]))
    return record.status, f"{notes}{again}".removeprefix("; ")


def progress(holder: Holder) -> str:
    """How far a running run is, by its claim, in words."""
    far = holder.progress
    if far is None:
        return f"{holder.name}, starting"
    left = "" if far.seconds_left is None else f", {_duration(far.seconds_left)} left"
    part = f" and {far.share:.0%} of the next" if far.share else ""
    return f"epoch {far.epochs} of {far.planned}{part}{left}, {holder.name}"


def _epochs(far: Reached) -> str:
    steps = f"step {far.steps} of " if far.steps else ""
    return f"after {steps}epoch {far.epochs + bool(far.steps)} of {far.planned}"


def _duration(seconds: float) -> str:
    """In the largest fitting unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _living_holder(folder: Path) -> Holder | None:
    """Who trains a run, as far as that can be seen: processes of other machines count as alive."""
    holder = holder_of(folder)
    return None if holder is None or has_died(holder) else holder


def score_text(record: Record | None) -> str:
    """The score that selected the reported epoch, as `bench.run` prints it; "" without one."""
    if record is None or record.selected is None:
        return ""
    score = record.selected.score
    return f"{100 * score:.2f} %" if record.selection == "accuracy" else f"{score:.3f}"


def counts(runs: Sequence[FoundRun]) -> dict[str, int]:
    """How many runs are in each state that occurs."""
    found: dict[str, int] = {state: sum(run.state == state for run in runs) for state in STATES}
    return {state: count for state, count in found.items() if count}
