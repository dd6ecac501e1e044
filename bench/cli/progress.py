"""Progress of runs, decoding and benchmarks: live bars on a terminal, plain lines if output is piped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

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

from bench.launch.messages import Event
from bench.records.again import training_folder
from bench.records.plain_text import one_line
from bench.records.record import Record
from bench.records.store import ERROR_LOG, run_folder
from bench.spec.resolve import RunSpec
from datasets.decoding.prepare import Progress as Decoded

LONG_DECODING = 3.0  # seconds, from which on an array's progress is printed if output is piped


def run_title(data: str, variant: str, seed: int) -> str:
    """The run in the lines on its progress."""
    return f"{data} {variant} seed {seed}"


def outcome_line(record: Record) -> str:
    """One line on how a run ended."""
    name = run_title(*record.key)
    if record.status != "done":
        return f"{name}: {record.status}: {one_line(record.reason)}"
    assert record.selected is not None
    score = record.selected.score
    shown = f"accuracy {100 * score:.2f} %" if record.selection == "accuracy" else f"log gain {score:.3f}"
    part = "validation" if record.validation else "test"
    return f"{name}: {part} {shown} at {_selected_epochs(record)}, {record.seconds:.0f} s"


def _selected_epochs(record: Record) -> str:
    assert record.selected is not None
    epochs = sorted({one.epoch for one in record.selected_by_task.values()})
    return f"epochs {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else f"epoch {record.selected.epoch}"


_Live = TypeVar("_Live", bound="LiveProgress")


class LiveProgress:
    """Bars that appear on a terminal only; a context manager, so that the terminal is always restored."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.start = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)

    def __enter__(self: _Live) -> _Live:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def print(self, line: str, colour: str | None = None) -> None:
        """Prints a line above the bars."""
        self.console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start


class RunProgress(LiveProgress):
    """Follows the events of a launch: a bar for all runs and one for each that is training.

    results: the folder of the records, to say where the traceback of a failed run is.
    """

    def __init__(self, console: Console, specs: Sequence[RunSpec], results: Path) -> None:
        super().__init__(console)
        self.results = results
        self.total = len(specs)
        self.ended = 0
        # By run, because runs of different problems take more similar times than their epochs do.
        self.fractions: dict[str, float] = {}
        self.overall = self.bars.add_task("all runs", total=self.total)
        self.current: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        name = run_title(*event.spec.key)
        if event.kind in ("epoch", "part"):
            planned, done = event.spec.settings.train.epochs, event.epochs + event.share
            self.fractions[name] = done / planned
            if name not in self.current:
                self.current[name] = self.bars.add_task(name, total=planned)
            self.bars.update(self.current[name], completed=done)
        elif event.kind in ("note", "taken"):
            self.print(f"{name}: {event.note}.")
        else:
            self.ended += 1
            self.fractions[name] = 1.0
            if name in self.current:
                self.bars.remove_task(self.current.pop(name))
            if event.record is not None:
                colour = None if event.record.status == "done" else "red"
                found = "; another process trained it" if event.found else ""
                line = f"{outcome_line(event.record)}{found}{self._traceback(event.record)}{self._time_left()}"
                self.print(f"[{self.ended}/{self.total}] {line}", colour)
        self.bars.update(self.overall, completed=sum(self.fractions.values()))

    def _traceback(self, record: Record) -> str:
        """Where the traceback of a failed run is, if it left one."""
        log = training_folder(run_folder(self.results, record.data, record.variant, record.seed)) / ERROR_LOG
        return f"; the traceback is in {log}" if record.status == "failed" and log.is_file() else ""

    def _time_left(self) -> str:
        """Extrapolated from what is done; empty on a terminal, where the bar shows it."""
        done = sum(self.fractions.values())
        if self.console.is_terminal or self.ended == self.total or not done:
            return ""
        left = self.seconds / done * (self.total - done)
        return f"; {left / 60:.0f} min left" if left >= 90 else f"; {left:.0f} s left"


class DecodingProgress(LiveProgress):
    """Follows the decoding of a data set: a bar for each array, and a line at its start unless `only_bars`.

    Where there are no bars, arrays that take longer than a few seconds get that line in any case, and one per 10 %.
    """

    def __init__(self, console: Console, only_bars: bool = False) -> None:
        super().__init__(console)
        self.only_bars = only_bars
        self.files = 0
        self.current: TaskID | None = None
        self.lines: _DecodingLines | None = None

    def __call__(self, now: Decoded) -> None:
        if self.current is None:
            if now.damaged:
                self.print(_damage(now), "yellow")
            if not self.only_bars:
                self.print(_opening(now))
            self.current = self.bars.add_task(now.what, total=now.total)
            self.lines = None if self.console.is_terminal else _DecodingLines(now, self.seconds, not self.only_bars)
        self.bars.update(self.current, completed=now.done)
        for line in self.lines.due(now, self.seconds) if self.lines else ():
            self.print(line)
        if now.done == now.total:
            self.files += now.total - now.kept
            self.bars.remove_task(self.current)
            self.current = None


class _DecodingLines:
    """Decides which lines on an array are due.

    first: its progress at the start, at `start` in seconds.
    opened: whether the opening line is already printed.
    """

    def __init__(self, first: Decoded, start: float, opened: bool) -> None:
        self.first, self.start, self.opened = first, start, opened
        self.tenths = 10 * first.done // first.total

    def due(self, now: Decoded, seconds: float) -> list[str]:
        """The lines to print, at `seconds`."""
        passed, tenths = seconds - self.start, 10 * now.done // now.total
        if passed < LONG_DECODING or tenths == self.tenths:
            return []
        lines = [] if self.opened else [_opening(self.first)]
        self.opened, self.tenths = True, tenths
        left = passed / (now.done - now.kept) * (now.total - now.done)
        ending = f"{left:.0f} s left" if left else f"done in {passed:.0f} s"
        return [*lines, f"{now.what}: {now.done:,} of {now.total:,} {now.unit}s ({10 * tenths} %), {ending}"]


def _damage(now: Decoded) -> str:
    return (
        f"{now.what}: {now.damaged:,} of {now.total:,} rows of the prepared array in {now.folder} changed on disk "
        "since they were decoded; they are decoded again. Check that disk."
    )


def _opening(now: Decoded) -> str:
    kept = f", {now.kept:,} of them already decoded" if now.kept else ""
    return (
        f"{now.what}: {now.total:,} {now.unit}s{kept}; needs {now.needed / 2**30:.2f} GiB in {now.folder}, "
        f"{now.free / 2**30:.1f} GiB are free"
    )


class BenchmarkProgress(LiveProgress):
    """Follows a benchmark: one bar, which counts samples."""

    def __init__(self, console: Console, samples: int) -> None:
        super().__init__(console)
        self.bar = self.bars.add_task("", total=samples)

    def __call__(self, candidate: str) -> None:
        """The next sample, of this candidate, is about to be taken."""
        self.bars.update(self.bar, advance=1, description=candidate)

    def message(self, line: str) -> None:
        """Prints a line with the seconds since the start before it."""
        self.print(f"{self.seconds:5.0f} s  {line}")
