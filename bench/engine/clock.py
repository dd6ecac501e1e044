"""The time of training steps, measured on the device, without evaluation and without the first steps."""

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
    """Appends the seconds of each step to `seconds`: on a CPU at once, on an accelerator at the next `collect`.

    An accelerator records events in its own stream, so that no step waits for it.
    """

    def __init__(self, device: torch.device, seconds: list[float]) -> None:
        self.device = device
        self.seconds = seconds
        self._events: list[tuple[torch.Event, torch.Event]] = []
        self._uncounted = 0

    @classmethod
    def resumed(cls, device: torch.device, seconds: list[float]) -> StepClock:
        """A clock for a process that goes on with the steps of an earlier one: its first steps are slow again.

        They replace a warm-up that had not ended, and are not counted after one that had.
        """
        clock = cls(device, seconds)
        if len(seconds) > WARMUP:
            clock._uncounted = WARMUP
        else:
            seconds.clear()
        return clock

    @contextmanager
    def step(self, counted: bool = True) -> Iterator[None]:
        """Times the block. counted=False for a step that does extra work."""
        counted, self._uncounted = counted and not self._uncounted, max(0, self._uncounted - 1)
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
            self._events.append((begin, end))

    def collect(self) -> None:
        """Waits for the device and appends the times recorded since the last call."""
        synchronise(self.device)
        self.seconds += [begin.elapsed_time(end) / 1e3 for begin, end in self._events]
        self._events.clear()

    def timing(self) -> Timing | None:
        """Median and mean after the warm-up; None if there are no steps after it."""
        counted = self.seconds[WARMUP:]
        if not counted:
            return None
        return Timing(
            median=statistics.median(counted), mean=statistics.fmean(counted), steps=len(counted), warmup=WARMUP
        )
