"""What all runs of a launch share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.engine.context import CHECKPOINT_EVERY
from bench.records.store import run_folder
from bench.spec.data_seen import CurrentData
from bench.spec.resolve import RunKey, RunSpec

RETRIES = 2
EXPIRY = 60.0


@dataclass(frozen=True)
class LaunchConfig:
    """What all runs of a launch share.

    data: the folder of each data set.
    results: the folder of all records.
    device: its name.
    devices: those of the workers that train at a time, where they have different ones.
    threads: per run.
    cache: the folder of decoded data; None for the default.
    current: what the data was when the runs were planned.
    retries: how often a run is tried again whose process died.
    expiry: seconds without a sign of life after which another process may take over a run.
    again: the runs that are trained though they have a record.
    logger: "tensorboard", or "" for none.
    checkpoint_every: seconds from one checkpoint of a run to the next.
    trials: whether the runs are trials of tuning, as their records then say.
    """

    data: Mapping[str, Path]
    results: Path
    device: str
    threads: int
    cache: Path | None = None
    current: CurrentData = field(default_factory=lambda: CurrentData({}, {}))
    retries: int = RETRIES
    expiry: float = EXPIRY
    again: frozenset[RunKey] = frozenset()
    logger: str = ""
    checkpoint_every: float = CHECKPOINT_EVERY
    devices: tuple[str, ...] = ()
    trials: bool = False

    def folder(self, spec: RunSpec) -> Path:
        """The folder of a run."""
        return run_folder(self.results, spec.data, spec.variant, spec.seed)
