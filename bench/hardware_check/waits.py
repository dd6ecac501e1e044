"""How often the host waits for the device, as the device's own library counts it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from bench import ROOT

# Within, waits are counted. Yields a function that returns a place in our code, or "", for each wait so far.
WaitCounter = Callable[[], AbstractContextManager[Callable[[], Sequence[str]]]]

_WARNING = "synchronizing CUDA operation"


@contextmanager
def counted_by_cuda() -> Iterator[Callable[[], Sequence[str]]]:
    """Counts the warnings of torch.cuda.set_sync_debug_mode, which knows most operations that wait, but not all.

    Each is warned of with the line of Python that called the operation. Those of a backward pass have the line that
    asked for it. Mode and filters of warnings are restored.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: [_place(w.filename, w.lineno) for w in caught if _WARNING in str(w.message)]
        finally:
            torch.cuda.set_sync_debug_mode(mode)


def _place(name: str, line: int) -> str:
    path = Path(name)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}"


# By type of device. Waits of other devices are not counted.
COUNTERS: Mapping[str, WaitCounter] = {"cuda": counted_by_cuda}
