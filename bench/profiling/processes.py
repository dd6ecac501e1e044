"""How long a command takes, and the memory of all its processes, as Linux counts it in /proc/PID/smaps_rollup."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from threading import Event

from bench import ROOT

_PROCESSES = Path("/proc")
# Least and greatest seconds between two samples, and the part of the time that sampling may take in between.
_SHORTEST, _LONGEST, _SHARE = 0.05, 0.5, 0.1


class CommandFailed(Exception):
    """A command ended with an error; the message has the end of what it printed."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in MiB.

    own: that of the process alone, and its share of what it has in common with others; of several processes, these add
        up to what all of them take. Pages of mapped files count, although the system can drop them.
    anonymous: without the pages of files.
    """

    own: float
    anonymous: float


@dataclass(frozen=True)
class Usage:
    """What a command took.

    seconds: wall-clock time.
    peak_mib: the largest sum of `Memory.own` over its processes; None where the system doesn't tell.
    anonymous: by process, the largest `Memory.anonymous` of those that Python's multiprocessing started.
    output: what it printed.
    """

    seconds: float
    peak_mib: float | None
    anonymous: Mapping[int, float]
    output: str


def run_measured(command: Sequence[str]) -> Usage:
    """Runs a command in the root of the checkout, and samples the memory of it and of all that it starts.

    Raises:
        CommandFailed: its exit code isn't 0.
    """
    start, ended = time.perf_counter(), Event()
    with (
        ThreadPoolExecutor(1) as threads,
        Popen(command, cwd=ROOT, stdout=PIPE, stderr=STDOUT, encoding="utf-8", errors="replace") as process,
    ):
        samples = threads.submit(_sampled, process.pid, ended)
        try:
            output, _ = process.communicate()
            seconds = time.perf_counter() - start
        finally:
            ended.set()
        peak, anonymous = samples.result()
    if process.returncode:
        words, tail = " ".join(command[1:]), "\n".join(output.splitlines()[-5:])
        raise CommandFailed(f"{words}: expected exit code 0, found {process.returncode}; it printed\n{tail}")
    return Usage(seconds, peak, anonymous, output)


def _sampled(root: int, ended: Event) -> tuple[float | None, dict[int, float]]:
    """`Usage.peak_mib` and `Usage.anonymous` of a process and its descendants, sampled until the event is set."""
    peak: float | None = None
    anonymous: dict[int, float] = {}
    pause = 0.0
    while not ended.wait(pause):
        start = time.perf_counter()
        found = {pid: memory for pid in family(root) if (memory := memory_of(pid)) is not None}
        if found:
            peak = max(peak or 0.0, sum(memory.own for memory in found.values()))
        for pid, memory in found.items():
            if pid in anonymous or _is_worker(pid):
                anonymous[pid] = max(anonymous.get(pid, 0.0), memory.anonymous)
        pause = min(max(_SHORTEST, (time.perf_counter() - start) / _SHARE), _LONGEST)
    return peak, anonymous


def family(root: int) -> list[int]:
    """A process and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for place in _PROCESSES.glob("[0-9]*"):
        try:
            # The name of the program is in brackets, and may have some itself; the parent is the second word after it.
            words = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(words[1]), []).append(int(place.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def memory_of(pid: int) -> Memory | None:
    """None if the process has ended, or where the system doesn't tell."""
    try:
        text = (_PROCESSES / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    kibibytes = {name: int(number) for name, number in re.findall(r"^(Pss|Anonymous): +(\d+) kB", text, re.MULTILINE)}
    return Memory(kibibytes["Pss"] / 1024, kibibytes["Anonymous"] / 1024) if len(kibibytes) == 2 else None


def _is_worker(pid: int) -> bool:
    """Whether multiprocessing started it, to work; its fork server counts too, and takes less than what it forks."""
    try:
        words = (_PROCESSES / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return any(name in words for name in (b"multiprocessing.spawn", b"multiprocessing.forkserver"))
