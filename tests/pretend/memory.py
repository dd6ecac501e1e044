"""Memory of the pretend device, and pinned memory of the host.

torch's allocators can't be written in Python. A storage on the CPU carries what is known of it as an attribute: torch
keeps the Python object of a storage as long as the storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from torch import Tensor

TOTAL = 8 * 2**30


@dataclass
class Memory:
    """Bytes of storages that are alive, and the most since the last reset."""

    allocated: int = 0
    peak: int = 0


MEMORY = Memory()
_lock = Lock()


class _Allocation:
    """Counts a storage as long as it lives."""

    def __init__(self, size: int) -> None:
        self.size = size
        with _lock:
            MEMORY.allocated += size
            MEMORY.peak = max(MEMORY.peak, MEMORY.allocated)

    def __del__(self) -> None:
        MEMORY.allocated -= self.size


def track(inner: Tensor) -> None:
    """Counts the storage of a tensor on the CPU as memory of the device, once."""
    storage = inner.untyped_storage()
    if not hasattr(storage, "pretend_allocation"):
        storage.pretend_allocation = _Allocation(storage.nbytes())


def pin(tensor: Tensor) -> Tensor:
    """Marks the storage of a tensor on the CPU as pinned; returns the tensor."""
    tensor.untyped_storage().pretend_pinned = True
    return tensor


def is_pinned(tensor: Tensor) -> bool:
    """Whether the storage of a tensor on the CPU is pinned."""
    return hasattr(tensor.untyped_storage(), "pretend_pinned")


def reset_peak() -> None:
    """The peak begins again at what is allocated now."""
    MEMORY.peak = MEMORY.allocated
