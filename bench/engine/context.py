"""Where a run happens, and what stays the same while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.records.files import Guard
from bench.records.record import Scores
from bench.spec.resolve import RunSpec
from datasets.contract import Splits

CHECKPOINT_EVERY = 120.0


@dataclass(frozen=True)
class RunContext:
    """Where a run happens.

    data: the folder of its data set.
    folder: the folder of its results.
    device, threads: what it computes on.
    cache: the folder of decoded data; None for the default.
    fingerprint: what the data was when the run was planned; None if nobody looked.
    guard: the context in which files of the run are moved to their place; it raises if the run is another process's.
    lost: how earlier attempts at this run ended, one sentence each.
    checkpoint_every: seconds from one checkpoint to the next, at the end of a step.
    trial: whether the run is a trial of tuning.
    """

    data: Path
    folder: Path
    device: torch.device
    threads: int
    cache: Path | None = None
    fingerprint: Mapping[str, str] | None = None
    guard: Guard = nullcontext
    lost: tuple[str, ...] = ()
    checkpoint_every: float = CHECKPOINT_EVERY
    trial: bool = False


@dataclass(frozen=True)
class Run:
    """A run with its data.

    splits: on the device, as far as they fit.
    fingerprint: of the splits, by part, and of the whole.
    dummy_validation: scores of the dummy baseline on validation; None for protocols without a validation set.
    dummy_test: its scores on test.
    """

    spec: RunSpec
    context: RunContext
    splits: Splits
    fingerprint: Mapping[str, str]
    dummy_validation: Scores | None
    dummy_test: Scores
