"""The command gpu_check on the pretend device: PYTHONPATH=tests python -m pretend.checking takes its options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.gpu_check import main
from bench.hardware_check.waits import WaitCounter
from pretend.counts import counting
from pretend.device import available


@contextmanager
def counter() -> Iterator[Callable[[], Sequence[str]]]:
    """Waits as the device itself counts them."""
    with counting() as counts:
        yield lambda: [next(iter(event.lines), "") for event in counts().events if event.kind == "wait"]


COUNTERS: Mapping[str, WaitCounter] = {"pretend": counter}

if __name__ == "__main__":
    with available():
        sys.exit(main(counters=COUNTERS))
