"""What the launcher and its workers tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.records.again import AGAIN
from bench.records.claim import Claim
from bench.records.record import Record
from bench.spec.resolve import RunSpec


@dataclass(frozen=True)
class Assignment:
    """A run for a worker.

    claim: taken in the worker's name.
    lost: how earlier attempts ended, one sentence each.
    again: whether it has a record, which stays until the new one is whole.
    """

    spec: RunSpec
    claim: Claim
    lost: tuple[str, ...] = ()
    again: bool = False

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.claim.folder / AGAIN if self.again else self.claim.folder


@dataclass(frozen=True)
class Event:
    """What happened to a run.

    kind: "epoch": the number of finished epochs is `epochs`. "part": the same, and `share` of the next one is done.
        "end": it has ended with `record`. "note": there is something to know. "taken": another process has taken it
        over. "storage": results can't be written or read.
    found: at the end: whether another process had finished the run.
    """

    kind: Literal["epoch", "part", "end", "note", "taken", "storage"]
    spec: RunSpec
    epochs: int = 0
    record: Record | None = None
    note: str = ""
    found: bool = False
    share: float = 0.0
