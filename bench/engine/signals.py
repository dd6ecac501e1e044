"""Signals that stop a command or a worker, as exceptions: what is open is closed on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALLED = 128  # to which shells add the number of the signal that ended a command
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

Handler = Callable[[int, FrameType | None], object]


class Stopped(KeyboardInterrupt):
    """A signal told this process to stop. Like Ctrl-C, it is no error of the run that it ends."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopped_by(*numbers: int) -> Iterator[None]:
    """Within, these signals raise Stopped. One that is ignored, as under nohup, stays ignored.

    Some libraries turn whatever interrupts them into an error of their own, such as an ImportError while a compiled
    module is imported. An error that names Stopped as its cause leaves as Stopped.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped(number)

    with _handled({number: stop for number in numbers if signal.getsignal(number) != signal.SIG_IGN}):
        try:
            yield
        except Exception as error:
            cause = error.__cause__
            while cause is not None and not isinstance(cause, Stopped):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None


@contextmanager
def uninterrupted() -> Iterator[Sequence[int]]:
    """Within, signals that would raise an exception wait; they have their effect at the end.

    Yields those that wait, so that a long piece of work can end at a place of its own.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(number)

    try:
        with _handled({number: note for number in STOP_SIGNALS if callable(signal.getsignal(number))}):
            yield arrived
    finally:
        for late in arrived:
            signal.raise_signal(late)


def exit_code(stop: KeyboardInterrupt) -> int:
    """That of a command which was stopped, as shells count."""
    return SIGNALLED + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def _handled(handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Within, these signals have these handlers. Only the main thread may choose, and only there they run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
