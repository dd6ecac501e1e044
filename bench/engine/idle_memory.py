"""The memory of a process without its run, beside which its peak says what the run adds."""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.engine.device import memory_mib, release_freed_memory

_MAPPINGS = Path("/proc/self/smaps")
# A line such as "7f3a6c000000-7f3a6c021000 r-xp 00000000 08:01 1234   /usr/lib/libc.so.6" begins a mapping.
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)$")
_RESIDENT = re.compile(r"^Rss: +(\d+) kB$")


@dataclass(frozen=True)
class BeforeRun:
    """Memory of a process before its run, in MiB. None where the system doesn't report it.

    total: in use, of what `peak_memory_mib` is the peak.
    code: of it, of programs and libraries; 0 on an accelerator.
    """

    total: float | None
    code: float | None


def memory_before_run(device: torch.device) -> BeforeRun:
    """The memory in use now. What an earlier run of this process has freed is given back before."""
    gc.collect()
    code = _code_mib(device)  # first: what reading it takes is given back as well
    release_freed_memory()
    return BeforeRun(memory_mib(device), code)


def idle_memory_mib(before: BeforeRun, device: torch.device) -> float | None:
    """What the process would have in use without its run, in MiB.

    The system loads the code of libraries page by page, when it is first executed. The first run of a process would
    seem to take tens of MiB more than the second one, so what was loaded meanwhile counts as idle.
    """
    code = _code_mib(device)
    if before.total is None or before.code is None or code is None:
        return None
    return before.total + code - before.code


def _code_mib(device: torch.device) -> float | None:
    """Resident memory of all files that this process executes."""
    if device.type != "cpu":
        return 0.0
    if not _MAPPINGS.exists():
        return None
    resident: dict[str, int] = {}
    executed: set[str] = set()
    name = ""
    with _MAPPINGS.open(errors="replace") as lines:
        for line in lines:
            if found := _MAPPING.match(line):
                name = found.group(2)
                if "x" in found.group(1) and name.startswith("/"):
                    executed.add(name)
            elif found := _RESIDENT.match(line):
                resident[name] = resident.get(name, 0) + int(found.group(1))
    return sum(resident.get(name, 0) for name in executed) / 2**10
