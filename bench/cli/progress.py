"""What a person sees while runs go on: live bars on a terminal, plain lines where output is piped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.launch.local import Event
from bench.records.record import Record
from bench.spec.resolve import RunSpec


def run_name(spec: RunSpec) -> str:
    """How a run is called in messages."""
    return f"{spec.data} {spec.variant} seed {spec.seed}"


def outcome_line(record: Record) -> str:
    """One line on how a run ended."""
    name = f"{record.data} {record.variant} seed {record.seed}"
    if record.status != "done":
        return f"{name}: {record.status}: {record.reason}"
    assert record.selected is not None
    score = record.selected.score
    shown = f"accuracy {100 * score:.2f} %" if record.selection == "accuracy" else f"log gain {score:.3f}"
    part = "validation" if record.validation else "test"
    return f"{name}: {part} {shown} at epoch {record.selected.epoch}, {record.seconds:.0f} s"


class RunProgress:
    """Follows the events of a launch; a context manager, so that the terminal is left in order."""

    def __init__(self, console: Console, specs: Sequence[RunSpec]) -> None:
        self.console = console
        self.total = len(specs)
        self.ended = 0
        # Of each run, since runs of different problems take more alike times than their epochs.
        self.fractions: dict[str, float] = {}
        self.start = time.monotonic()
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.overall = self.bars.add_task("all runs", total=self.total)
        self.current: dict[str, TaskID] = {}

    def __enter__(self) -> RunProgress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        name = run_name(event.spec)
        if event.kind == "epoch":
            self.fractions[name] = event.epochs / event.spec.settings.train.epochs
            if name not in self.current:
                self.current[name] = self.bars.add_task(name, total=event.spec.settings.train.epochs)
            self.bars.update(self.current[name], completed=event.epochs)
        else:
            self.ended += 1
            self.fractions[name] = 1.0
            if name in self.current:
                self.bars.remove_task(self.current.pop(name))
            if event.record is not None:
                colour = None if event.record.status == "done" else "red"
                line = f"[{self.ended}/{self.total}] {outcome_line(event.record)}{self._time_left()}"
                self.console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True)
        self.bars.update(self.overall, completed=sum(self.fractions.values()))

    def _time_left(self) -> str:
        """Seen from what is done so far; only where no bar shows it."""
        done = sum(self.fractions.values())
        if self.console.is_terminal or self.ended == self.total or not done:
            return ""
        left = (time.monotonic() - self.start) / done * (self.total - done)
        return f"; {left / 60:.0f} min left" if left >= 90 else f"; {left:.0f} s left"
