"""Memory of this process and what is left for others, in MiB; None where the system doesn't tell."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.engine.device import free_memory, peak_memory_mib, reset_peak_memory

_STATUS = Path("/proc/meminfo")
# What a container may use, a number or "max", and what it does use.
_LIMIT, _TAKEN = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def standing_memory(device: torch.device) -> float | None:
    """In use now: of tensors on an accelerator, of the process on a CPU once it has given back what it can."""
    if device.type == "cpu":
        _give_back()
    reset_peak_memory(device)
    return peak_memory_mib(device)


def _give_back() -> None:
    """Returns freed memory to the system, where the C library can: what an earlier probe has left would hide ours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def room(device: torch.device) -> float | None:
    """What nobody has taken, on the accelerator or in the machine."""
    if device.type != "cpu":
        return free_memory(device) / 2**20
    if not _STATUS.exists():
        return None
    lines = (line.split() for line in _STATUS.read_text(encoding="ascii").splitlines())
    known = [int(line[1]) / 2**10 for line in lines if line[0] == "MemAvailable:"]
    limit = _LIMIT.read_text(encoding="ascii").strip() if _LIMIT.exists() else ""
    if limit.isdecimal() and _TAKEN.exists():
        known.append((int(limit) - int(_TAKEN.read_text(encoding="ascii"))) / 2**20)
    return min(known, default=None)


def bytes_in(content: Any) -> int:
    """Of all tensors in nested lists and mappings."""
    if isinstance(content, Tensor):
        return content.nbytes
    if isinstance(content, Mapping):
        return sum(bytes_in(value) for value in content.values())
    return sum(bytes_in(value) for value in content) if isinstance(content, list | tuple) else 0
