"""The runs that a launch has still to train. Each is claimed before it is handed out: no other command trains it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.launch.config import LaunchConfig
from bench.launch.messages import Assignment, Event
from bench.records.again import AGAIN, has_ended_again, replace_old
from bench.records.claim import CLAIM, Claim, Holder, release, take
from bench.records.files import StorageError, remove_temporary_files
from bench.records.record import Record
from bench.records.store import CHECKPOINT, RECORD, read_run, set_aside
from bench.spec.kept import is_kept
from bench.spec.resolve import RunSpec

POLL = 1.0  # seconds between two looks at the runs that other processes train
# What tells whether a file was written again; None if there is none.
Stamp = tuple[int, int] | None


@dataclass(frozen=True)
class _Waiting:
    """A run that waits.

    lost: how earlier attempts ended.
    gone: a process that is known to be dead, as it last held the claim.
    holder, since: of the other process that trains it, if there is one; its last sign of life, and when it was seen.
    """

    spec: RunSpec
    lost: tuple[str, ...] = ()
    gone: Holder | None = None
    holder: Holder | None = None
    since: float = 0.0

    @property
    def expired(self) -> Holder | None:
        """The holder, if it is known to be dead or has given no sign of life for too long."""
        if self.gone is not None:
            return self.gone
        late = self.holder is not None and time.monotonic() - self.since > self.holder.expiry
        return self.holder if late else None


class RunQueue:
    """Runs in order. Those that another process trains wait behind the others.

    on_event: told of runs that another process trains or has finished.
    lost, gone: of earlier attempts at these runs elsewhere: how they ended, and the process that was lost.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        config: LaunchConfig,
        on_event: Callable[[Event], None],
        lost: tuple[str, ...] = (),
        gone: Holder | None = None,
    ) -> None:
        self._config, self._on_event = config, on_event
        self._waiting = deque(_Waiting(spec, lost, gone) for spec in specs)
        # A record that was there when the launch began ends no run that has failed, or that is to be trained again.
        self._before = {folder: _stamp(folder / RECORD) for folder in map(config.folder, specs)}
        self._look_again = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, spec: RunSpec, lost: tuple[str, ...]) -> None:
        """Adds a run that could not be finished. lost: how its attempts ended."""
        self._waiting.append(_Waiting(spec, lost))
        self._look_again = 0.0

    def next(self, process: int) -> Assignment | None:
        """Claims the next run in the name of a process; None if there is none that no other process trains.

        Raises:
            StorageError: its folder can't be written. RecordError: its record can't be read.
            PlanError: another process made it with other settings or data.
        """
        if time.monotonic() < self._look_again:  # hundreds may be held, and each worker asks after each event
            return None
        for _ in range(len(self._waiting)):
            run = self._waiting.popleft()
            claim = take(self._config.folder(run.spec), process, self._config.expiry, run.expired)
            if isinstance(claim, Holder):
                self._wait_for(claim, run)
            elif self._is_to_train(run, claim):
                return Assignment(run.spec, claim, run.lost, run.spec.key in self._config.again)
        self._look_again = time.monotonic() + POLL
        return None

    def _is_to_train(self, run: _Waiting, claim: Claim) -> bool:
        """Whether a run that has been claimed is still to be trained; if not, the claim is released."""
        to_train = False
        try:
            if new := set_aside(claim.folder):
                self._on_event(Event("note", run.spec, note=f"its bad record was moved to {new}"))
            replace_old(claim.folder, claim.guard)
            record = self._finished(run)
            clear(claim, finished=record is not None)
            to_train = record is None
        finally:
            if not to_train:
                release(claim)
        if record is not None:
            # After a lost attempt, it is most likely that of our own process, which died when it had written it.
            self._on_event(Event("end", run.spec, record=record, found=not run.lost))
        return to_train

    def _wait_for(self, holder: Holder, run: _Waiting) -> None:
        if run.holder is None or run.holder.owner != holder.owner:
            note = f"{holder.name} trains this run; this command trains other runs and then waits for it"
            self._on_event(Event("note", run.spec, note=note))
        if run.holder != holder:
            run = replace(run, gone=None, holder=holder, since=time.monotonic())
        self._waiting.append(run)

    def _finished(self, run: _Waiting) -> Record | None:
        """The record that another process has written since the runs were planned."""
        folder = self._config.folder(run.spec)
        path = folder / RECORD
        record = read_run(folder)
        if record is None:
            return None
        if record.status == "failed" or run.spec.key in self._config.again:
            return None if _stamp(path) == self._before[folder] else record
        return record if is_kept(run.spec, record, path, self._config.current.of(run.spec)) else None


def clear_finished(specs: Sequence[RunSpec], config: LaunchConfig) -> None:
    """Removes what processes that were killed at their very end have left in the folders of finished runs.

    Where that can't be written, it stays.
    """
    for folder in map(config.folder, specs):
        with suppress(StorageError, OSError):
            names = os.listdir(folder)
            left = CLAIM in names or CHECKPOINT in names or any(name.startswith(".") for name in names)
            if left or has_ended_again(folder):
                claim = take(folder, os.getpid(), config.expiry)
                if isinstance(claim, Claim):
                    try:
                        replace_old(folder, claim.guard)
                        clear(claim, finished=True)
                    finally:
                        release(claim)


def clear(claim: Claim, finished: bool) -> None:
    """Removes what killed processes have left in the folder of a run."""
    with claim.guard():
        remove_temporary_files(claim.folder)
        remove_temporary_files(claim.folder / AGAIN)
        if finished:
            (claim.folder / CHECKPOINT).unlink(missing_ok=True)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
