"""Memory in use and memory available, in MiB; None if the system doesn't say."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from bench.engine.device import free_memory, peak_memory_mib, reset_peak_memory

_MEMORY = Path("/proc/meminfo")
# Limit of a container, a number or "max", and its use.
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def persistent_memory(device: torch.device) -> float | None:
    """In use now: by tensors on an accelerator, by the whole process on a CPU. Resets the peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if device.type == "cpu" and trim is not None:
        trim(0)  # returns freed memory to the system, which would hide what the next step allocates
    reset_peak_memory(device)
    return peak_memory_mib(device)


def available_memory(device: torch.device) -> float | None:
    """Free on the accelerator, or in the machine and its container."""
    if device.type != "cpu":
        return free_memory(device) / 2**20
    if not _MEMORY.exists():
        return None
    lines = (line.split() for line in _MEMORY.read_text(encoding="ascii").splitlines())
    found = [int(line[1]) / 2**10 for line in lines if line[0] == "MemAvailable:"]
    limit = _LIMIT.read_text(encoding="ascii").strip() if _LIMIT.exists() else ""
    if limit.isdecimal() and _USED.exists():
        found.append((int(limit) - int(_USED.read_text(encoding="ascii"))) / 2**20)
    return min(found, default=None)
