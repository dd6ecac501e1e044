"""Where a run happens, and what stays the same while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.records.record import Scores
from bench.spec.resolve import RunSpec
from datasets.contract import Splits


@dataclass(frozen=True)
class RunContext:
    """Where a run happens.

    data: the folder of its data set.
    folder: the folder of its results.
    device, threads: what it computes on.
    """

    data: Path
    folder: Path
    device: torch.device
    threads: int


@dataclass(frozen=True)
class Run:
    """A run with its data.

    splits: on the device, as far as they fit.
    dummy_validation: scores of the dummy baseline on validation; None for protocols without a validation set.
    dummy_test: its scores on test.
    """

    spec: RunSpec
    context: RunContext
    splits: Splits
    dummy_validation: Scores | None
    dummy_test: Scores
