"""Events and streams of the pretend device. Their times are simulated. There is one queue, whatever the stream."""

from __future__ import annotations

from typing import Any

import torch

from pretend.counts import QUEUE, record_wait
from pretend.names import DEVICE

_PlainEvent, _PlainStream = torch.Event, torch.Stream


class PretendEvent:
    """A point in the queue."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timing = enable_timing
        self.time: float | None = None
        self.device = DEVICE

    def record(self, stream: object = None) -> None:
        del stream
        self.time = max(QUEUE.host, QUEUE.device)

    def query(self) -> bool:
        """Whether the device has come to it, which doesn't wait."""
        return self.time is None or QUEUE.host >= self.time

    def wait(self, stream: object = None) -> None:
        """Makes a stream wait, not the host."""

    def synchronize(self) -> None:
        record_wait("Event.synchronize")

    def elapsed_time(self, end: PretendEvent) -> float:
        """Simulated milliseconds.

        Raises:
            RuntimeError: an event has no time, or the device has not come to it yet.
        """
        if not (self.timing and end.timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self.time is None or end.time is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end.time - self.time) * 1e3


class PretendStream:
    """A stream, which runs in the one queue of the device."""

    def __init__(self) -> None:
        self.device = DEVICE

    def synchronize(self) -> None:
        record_wait("Stream.synchronize")

    def query(self) -> bool:
        return QUEUE.host >= QUEUE.device

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: PretendEvent | None = None) -> PretendEvent:
        event = event or PretendEvent()
        event.record(self)
        return event

    def wait_event(self, event: PretendEvent) -> None:
        """Makes the stream wait, not the host."""

    def wait_stream(self, stream: PretendStream) -> None:
        """Makes the stream wait, not the host."""

    def __enter__(self) -> PretendStream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _OfPretendOr(type):
    """The type of a class that stands for one of torch's."""

    plain: type
    pretend: type

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, (cls.plain, cls.pretend))


class Event(metaclass=_OfPretendOr):
    """Stands for torch.Event while the device is available."""

    plain, pretend = _PlainEvent, PretendEvent

    def __new__(cls, device: Any = "pretend", **settings: Any) -> Any:
        if torch.device(device).type != "pretend":
            return _PlainEvent(device, **settings)
        return PretendEvent(settings.get("enable_timing", False))


class Stream(metaclass=_OfPretendOr):
    """Stands for torch.Stream while the device is available."""

    plain, pretend = _PlainStream, PretendStream

    def __new__(cls, device: Any = "pretend", **settings: Any) -> Any:
        return PretendStream() if torch.device(device).type == "pretend" else _PlainStream(device, **settings)


CURRENT_STREAM = PretendStream()


def synchronize(device: object = None) -> None:
    """Waits until the device has finished."""
    del device
    record_wait("synchronize")
