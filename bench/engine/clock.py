"""The time of training steps: as the device has it, without evaluation, the first steps dropped."""

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
    """Adds the seconds of each step to `seconds`: on a CPU at once, on an accelerator with the next `collect`.

    An accelerator notes the times itself as it comes to them, so that nothing waits for it between steps.
    """

    def __init__(self, device: torch.device, seconds: list[float]) -> None:
        self.device = device
        self.seconds = seconds
        self._noted: list[tuple[torch.Event, torch.Event]] = []

    @contextmanager
    def step(self, counted: bool = True) -> Iterator[None]:
        """Times what happens within; counted=False for a step that does more than others."""
        if self.device.type == "cpu":
            start = time.perf_counter()
            yield
            if counted:
                self.seconds.append(time.perf_counter() - start)
            return
        begin, end = (torch.Event(self.device.type, enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        if counted:
            self._noted.append((begin, end))

    def collect(self) -> None:
        """Waits for the device, and adds what it has noted since the last time."""
        synchronise(self.device)
        self.seconds += [begin.elapsed_time(end) / 1e3 for begin, end in self._noted]
        self._noted.clear()

    def timing(self) -> Timing | None:
        """Median and mean after warm-up; None where there are no more steps than that."""
        counted = self.seconds[WARMUP:]
        if not counted:
            return None
        return Timing(
            median=statistics.median(counted), mean=statistics.fmean(counted), steps=len(counted), warmup=WARMUP
        )
