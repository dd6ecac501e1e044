"""When a run saves its checkpoint: after each epoch, every few minutes in the middle of one, and when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.engine.checkpoint import Origin, save_checkpoint
from bench.engine.history import History
from bench.engine.train_state import TrainState
from bench.records.files import Guard


@dataclass
class Saver:
    """Saves the checkpoints of a run.

    every: seconds from one to the next, at the end of a step.
    report(epochs done, share of the next one that is done) is called after each in the middle of an epoch.
    last: when the last one was saved, or the process began, on the clock of `time.monotonic`.
    """

    path: Path
    origin: Origin
    guard: Guard
    every: float
    report: Callable[[int, float], None]
    last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self.last >= self.every

    def save(self, state: TrainState, history: History) -> None:
        """Saves one now.

        Raises:
            StorageError: the file can't be written.
        """
        save_checkpoint(self.path, self.origin, state, history, self.guard)
        self.last = time.monotonic()
        if history.partial:
            self.report(history.epochs, history.partial.steps / self.origin.epoch_steps)
