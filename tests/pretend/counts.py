"""What code on the pretend device costs: operations, copies and waits, each with the lines of ours that caused it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

from pretend.in_flight import arrive

ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{ROOT / package}/" for package in ("bench", "methods", "datasets", "tests"))
_DEVICE = f"{Path(__file__).resolve().parent}/"
_CALLERS = 3

Kind = Literal["wait", "copy in", "copy out"]


@dataclass(frozen=True)
class Price:
    """Seconds of a simulated accelerator; rough, chosen and not measured.

    launch: that the host needs to queue an operation or a copy.
    operation: that the device needs for it, whatever its size.
    wait: that the host needs to go on after the queue has drained.
    """

    launch: float = 5e-6
    operation: float = 10e-6
    wait: float = 20e-6


@dataclass(frozen=True)
class Event:
    """A copy or a wait.

    what: the operation.
    lines: of this project, as path:line, innermost first; empty if none is on the stack.
    """

    kind: Kind
    what: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind:<8} {self.what:<36} {' < '.join(self.lines) or 'outside of this project'}"


@dataclass(frozen=True)
class Counts:
    """What a block of code has cost.

    operations: that compute something on the device. Views and metadata are free.
    events: copies and waits in order. A blocking copy is one of each.
    seconds: simulated, from the start of the block until the device has finished.
    """

    operations: int
    events: tuple[Event, ...]
    seconds: float

    @property
    def waits(self) -> int:
        """How often the host stopped until the queue had drained."""
        return self._number("wait")

    @property
    def copies_in(self) -> int:
        """Copies from the host to the device, blocking or not."""
        return self._number("copy in")

    @property
    def copies_out(self) -> int:
        """Copies of tensors from the device to the host. Reading one value is only a wait."""
        return self._number("copy out")

    def _number(self, kind: Kind) -> int:
        return sum(event.kind == kind for event in self.events)

    def __str__(self) -> str:
        total = (
            f"{self.waits} waits, {self.copies_in} copies in, {self.copies_out} copies out, "
            f"{self.operations} operations, {self.seconds * 1e3:.2f} ms simulated"
        )
        times = Counter(str(event) for event in self.events)
        return "\n".join([total, *(f"{number:>4} × {event}" for event, number in times.items())])


@dataclass
class Queue:
    """The host and the device as two clocks. The device works through what the host has queued.

    host, device: the time in seconds; that of the device is when it will have finished.
    """

    price: Price = field(default_factory=Price)
    host: float = 0.0
    device: float = 0.0

    def launch(self, *, work: bool) -> None:
        """The host queues something. work: whether the device has to do anything for it."""
        self.host += self.price.launch
        if work:
            self.device = max(self.device, self.host) + self.price.operation

    def drain(self) -> None:
        """The host waits until the device has finished."""
        self.host = max(self.host, self.device) + self.price.wait


@dataclass
class _Tally:
    """Running counts of a block."""

    start: float
    operations: int = 0
    events: list[Event] = field(default_factory=list)


QUEUE = Queue()
_lock = Lock()
_tallies: list[_Tally] = []


@contextmanager
def counting(price: Price | None = None) -> Iterator[Callable[[], Counts]]:
    """Within, all threads are counted. Yields a function that returns the counts so far. Blocks may be nested.

    price: of the simulated seconds.
    """
    before = QUEUE.price
    QUEUE.price = price or before
    tally = _Tally(start=max(QUEUE.host, QUEUE.device))
    QUEUE.host = tally.start

    def counts() -> Counts:
        with _lock:
            seconds = max(QUEUE.host, QUEUE.device) - tally.start
            return Counts(tally.operations, tuple(tally.events), seconds)

    _tallies.append(tally)
    try:
        yield counts
    finally:
        _tallies.remove(tally)
        QUEUE.price = before


def record_operation(*, work: bool) -> None:
    """Counts an operation. work: whether it computes anything, as a view does not."""
    with _lock:
        QUEUE.launch(work=work)
        for tally in _tallies:
            tally.operations += work


def record_wait(what: str) -> None:
    """Counts a wait."""
    with _lock:
        _wait(what)


def record_copy(kind: Literal["copy in", "copy out"], what: str, *, blocking: bool) -> None:
    """Counts a copy between host and device, and a wait if it blocks."""
    with _lock:
        QUEUE.launch(work=True)
        _record(kind, what)
        if blocking:
            _wait(what)


def _wait(what: str) -> None:
    QUEUE.drain()
    _record("wait", what)
    arrive()


def _record(kind: Kind, what: str) -> None:
    if _tallies:
        event = Event(kind, what, lines_of_ours())
        for tally in _tallies:
            tally.events.append(event)


def lines_of_ours() -> tuple[str, ...]:
    """The innermost lines of this project on the stack of this thread, without those of the device itself."""
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < _CALLERS:
        name = frame.f_code.co_filename
        if name.startswith(_OURS) and not name.startswith(_DEVICE):
            found.append(f"{name.removeprefix(f'{ROOT}/')}:{frame.f_lineno}")
        frame = frame.f_back
    return tuple(found)
