"""The time of training steps: synchronised, without evaluation, the first steps dropped."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.engine.device import synchronise
from bench.records.record import Timing

WARMUP = 5


class StepClock:
    """Collects the seconds of each step."""

    def __init__(self, device: torch.device, seconds: list[float]) -> None:
        self.device = device
        self.seconds = seconds

    @contextmanager
    def step(self, counted: bool = True) -> Iterator[None]:
        """Times what happens within; counted=False for a step that does more than others."""
        synchronise(self.device)
        start = time.perf_counter()
        yield
        synchronise(self.device)
        if counted:
            self.seconds.append(time.perf_counter() - start)

    def timing(self) -> Timing | None:
        """Median and mean after warm-up; None where there are no more steps than that."""
        counted = self.seconds[WARMUP:]
        if not counted:
            return None
        return Timing(
            median=statistics.median(counted), mean=statistics.fmean(counted), steps=len(counted), warmup=WARMUP
        )
