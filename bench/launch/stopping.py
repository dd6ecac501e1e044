"""Signals that stop a command or a worker, as exceptions: what is open is closed on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Stopped(KeyboardInterrupt):
    """A signal told this process to stop. Like Ctrl-C, it is no error of the run that it ends."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopped_by(*numbers: int) -> Iterator[None]:
    """Within, these signals raise Stopped. One that is ignored, as under nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may choose
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(stop: KeyboardInterrupt) -> int:
    """That of a command which was stopped: 128 and the number of the signal, as shells count."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    raise Stopped(number)
